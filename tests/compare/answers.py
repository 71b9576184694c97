"""What of two servers' answers counts, and how they differ."""

import difflib
import json
import re

# What differs between any two answers: who made it and when.
UNSTABLE = {"uid", "creationTimestamp", "resourceVersion", "selfLink"}


def stable(value, me=None):
    """An answer without what no two servers have in common; `me` is who asked."""
    if me and value == me["username"]:
        return "ME"
    if isinstance(value, dict):
        if value.get("kind") == "SelfSubjectRulesReview":
            for rules in value.get("status", {}).values():
                if isinstance(rules, list):
                    rules.sort(key=str)
        if isinstance(value.get("managedFields"), list):
            # Those of one write stand before those of another or behind, by whether a second passed.
            value["managedFields"].sort(key=lambda entry: [str(entry.get(key)) for key in (
                "manager", "operation", "apiVersion", "subresource", "fieldsV1")])
        return {key: stable(inner, me) for key, inner in value.items()
                if key not in UNSTABLE and not (me and inner and inner == me.get("extra"))}
    if isinstance(value, list):
        return [stable(inner, me) for inner in value]
    if isinstance(value, str):
        value = re.sub(r"-----BEGIN CERTIFICATE-----[^-]*-----END", "CERTIFICATE", value)
        value = re.sub(r"Too large resource version: (\d+), current: \d+", r"Too large: \1", value)
        value = re.sub(r"in record \(\d+\)", "in record (N)", value)
        value = re.sub(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "UID", value)
        value = re.sub(r"\b(kube-api-access|generated)-[a-z0-9]{5}\b", r"\1-RANDOM", value)
        return re.sub(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "TIME", value)
    return value


def settled(answer):
    """An answer without a status of the object, which autoscaling/v1 has in an annotation
    too, and without those who wrote it."""
    if not isinstance(answer, dict) or answer.get("kind") == "Status":
        return answer
    meta = dict(answer.get("metadata", {}))
    notes = dict(meta.pop("annotations", {}))
    notes.pop("autoscaling.alpha.kubernetes.io/conditions", None)
    if notes:
        meta["annotations"] = notes
    if "managedFields" in meta:
        meta["managedFields"] = [m for m in meta["managedFields"] if m.get("subresource") != "status"]
    return {**{key: value for key, value in answer.items() if key != "status"}, "metadata": meta}


def drawn(theirs, ours):
    """Pairs of what two servers drew at random for the same object: addresses."""
    spec, own = theirs.get("spec"), ours.get("spec")
    if isinstance(spec, dict) and "clusterIP" in spec and spec["clusterIP"] != own["clusterIP"]:
        yield spec["clusterIP"], own["clusterIP"]


def hidden(answer, values):
    """An answer without these values."""
    text = json.dumps(answer)
    for value in values:
        text = text.replace(json.dumps(value), '"RANDOM"')
    return json.loads(text)


def found(answer, path):
    """What an answer has at a dotted path."""
    for step in path.split("."):
        answer = answer.get(step) if isinstance(answer, dict) else None
    return answer


def told(answer):
    """An answer, and of a Status only what it says: its message repeats its causes."""
    if not isinstance(answer, dict) or answer.get("kind") != "Status":
        return answer
    causes = answer.get("details", {}).get("causes")
    if not causes:
        return {"Status": answer}
    # Knarr keeps no difference between nothing and an empty list or map, which only messages show.
    nothing = re.compile(r"(?<=[ :,\[])(\[\]|\{\}|null)(?=$|[\s,:}\]])")
    said = [f"{cause.get('field')}: {nothing.sub('null', cause.get('message', ''))} ({cause.get('reason')})" for cause in causes]
    message = answer.get("message", "").partition(" is invalid: ")[0]
    return {"Status": {**answer, "message": message, "details": {**answer["details"], "causes": said}}}


def differences(theirs, ours, path=""):
    """Lines that say where two documents differ."""
    if isinstance(theirs, dict) and isinstance(ours, dict) and ("Status" in theirs) != ("Status" in ours):
        for who, answer in (("reference", theirs), ("knarr", ours)):
            status = answer.get("Status", {})
            said = status.get("details", {}).get("causes") or status.get("message") or answer
            yield f"{who:>13}: {short(said)}"
    elif isinstance(theirs, dict) and isinstance(ours, dict):
        for key in sorted(theirs.keys() | ours.keys()):
            missing = "(nothing)"
            yield from differences(theirs.get(key, missing), ours.get(key, missing), f"{path}.{key}")
    elif isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours) and not path.endswith(".causes"):
        for at, (one, other) in enumerate(zip(theirs, ours)):
            yield from differences(one, other, f"{path}[{at}]")
    elif path.endswith(".causes") and isinstance(theirs, list) and isinstance(ours, list):
        for line in difflib.ndiff([short(cause) for cause in theirs], [short(cause) for cause in ours]):
            if line[0] in "-+":
                yield f"{'reference' if line[0] == '-' else 'knarr':>13}: {line[2:]}"
    elif theirs != ours or type(theirs) is not type(ours):
        yield f"{path}\n      reference: {short(theirs)}\n      knarr:     {short(ours)}"


def short(value):
    text = value if isinstance(value, str) else json.dumps(value)
    text = re.sub(r"x{60,}", "x…", text)
    return text if len(text) < 1200 else text[:1200] + "…"


def alike(line):
    """Lines of the same form are of one fault."""
    line = re.sub(r'"[^"]*"', '"…"', line)
    return re.sub(r"\d+", "N", line)
