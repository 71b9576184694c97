"""Requests to an API server that a kubeconfig names."""

import base64
import http.client
import json
import ssl
import tempfile
import threading
import urllib.parse

import yaml


class Server:
    """One API server; every thread has a connection of its own."""

    def __init__(self, kubeconfig):
        with open(kubeconfig) as file:
            config = yaml.safe_load(file)
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        address = urllib.parse.urlparse(cluster["server"])
        self.host, self.port = address.hostname, address.port
        self.headers = {}
        if "token" in user:
            self.headers["Authorization"] = "Bearer " + user["token"]
        self.tls = ssl.create_default_context(cafile=self._file(cluster, "certificate-authority"))
        self.tls.check_hostname = False
        certificate = self._file(user, "client-certificate")
        if certificate:
            self.tls.load_cert_chain(certificate, self._file(user, "client-key"))
        self.local = threading.local()

    @staticmethod
    def _file(entry, name):
        if name in entry:
            return entry[name]
        if f"{name}-data" not in entry:
            return None
        file = tempfile.NamedTemporaryFile(delete=False)
        file.write(base64.b64decode(entry[f"{name}-data"]))
        file.close()
        return file.name

    def ask(self, method, path, body=None, content="application/json", accept="application/json"):
        """The code and the document that the server answers with; 0 when it hangs up instead."""
        if body is not None and not isinstance(body, str):
            body = json.dumps(body)
        headers = dict(self.headers, Accept=accept)
        if body is not None:
            headers["Content-Type"] = content
        for attempt in (1, 2):
            if getattr(self.local, "connection", None) is None:
                self.local.connection = http.client.HTTPSConnection(
                    self.host, self.port, context=self.tls, timeout=60)
            try:
                self.local.connection.request(method, path, body and body.encode(), headers)
                answer = self.local.connection.getresponse()
                text = answer.read()
                break
            except (http.client.HTTPException, OSError):
                self.local.connection.close()
                self.local.connection = None
                if attempt == 2:
                    return 0, "no answer"
        try:
            return answer.status, json.loads(text)
        except ValueError:
            return answer.status, text.decode(errors="replace")

    def user(self):
        """Who we are to the server."""
        path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
        return self.ask("POST", path, {})[1]["status"]["userInfo"]

    def resources(self):
        """`(apiVersion, kind)` of every resource, with its path and whether it is in namespaces."""
        found = {}
        groups = self.ask("GET", "/apis")[1]["groups"]
        versions = ["v1"] + [v["groupVersion"] for g in groups for v in g["versions"]]
        for version in versions:
            prefix = "/api/v1" if version == "v1" else f"/apis/{version}"
            for resource in self.ask("GET", prefix)[1].get("resources", []):
                if "/" not in resource["name"] and "create" in resource["verbs"]:
                    key = (version, resource["kind"])
                    found[key] = (prefix, resource["name"], resource["namespaced"], resource["verbs"])
        return found
