//! The status of PodCertificateRequests: a signer writes it once, and only what fits the certificate.

use apimachinery::{
    field::{FieldError, Path},
    time,
};
use jiff::Timestamp;
use pki::{Certificate, pem};
use serde_json::{Value, json};

use super::pod_certificate_request::key;
use crate::{
    kinds::{
        Context,
        validation::{Errors, Report as _, conditions, spec},
        value::{Fields as _, same},
    },
    request::RequestInfo,
};

/// The conditions there may be, one of them at most.
pub(super) const VERDICTS: [&str; 3] = ["Issued", "Denied", "Failed"];

/// Bytes of a chain.
const MAX_CHAIN: usize = 100 * 1024;
/// Seconds by which a certificate may begin before or after now.
const SKEW: i64 = 5 * 60;
/// Seconds between the beginning, or end, of a certificate and its refresh.
const MARGIN: i64 = 10 * 60;
const MIN_LIFETIME: i64 = 3600;

/// Whoever signs must be allowed to sign for the signer, or for all signers of its domain.
pub(super) fn may_sign(context: &Context<'_>, request: &Value, errors: &mut Errors) {
    let signer = request.text("signerName");
    let domain = signer.split('/').next().unwrap_or_default();
    let allowed = [signer, &format!("{domain}/*")].iter().any(|name| {
        let info = RequestInfo {
            verb: "sign".to_owned(),
            is_resource: true,
            group: "certificates.k8s.io".to_owned(),
            version: "*".to_owned(),
            resource: "signers".to_owned(),
            name: (*name).to_owned(),
            ..RequestInfo::default()
        };
        context.server.authorizer.authorize(context.user, &info).allowed
    });
    if !allowed {
        let user = &context.user.name;
        let detail = format!(r#"User {user:?} is not permitted to "sign" for signer {signer:?}"#);
        errors.forbidden(&spec().child("signerName"), &detail);
    }
}

/// Validates a change of the status.
pub(super) fn validate(old: &Value, new: &Value, errors: &mut Errors) {
    let (old_status, status) = (&old["status"], &new["status"]);
    let path = Path::root("status");
    verdicts(status, &path, errors);
    conditions(status, &path, errors);
    if !errors.is_empty() {
        return;
    }
    let immutable = |detail: &str, errors: &mut Errors| {
        if !same(old_status, status) {
            errors.push(FieldError::invalid_without_value(&path, detail));
        }
    };
    if VERDICTS.iter().any(|kind| has(old_status, kind)) {
        let detail = "immutable after PodCertificateRequest is issued, denied, or failed";
        return immutable(detail, errors);
    }
    if has(status, "Denied") || has(status, "Failed") {
        if !same(status, &json!({"conditions": status["conditions"]})) {
            let detail = "non-condition status fields must be empty when denying or failing the \
                          PodCertificateRequest";
            errors.push(FieldError::invalid_without_value(&path, detail));
        }
        return;
    }
    if has(status, "Issued") {
        let now = Timestamp::now().as_second();
        return issued(&new["spec"], status, now, errors);
    }
    let detail = r#"status is immutable unless transitioning to "Issued", "Denied", or "Failed""#;
    immutable(detail, errors);
}

fn has(status: &Value, kind: &str) -> bool {
    let conditions = status.list("conditions");
    conditions.iter().any(|it| it.text("type") == kind && it.text("status") == "True")
}

fn verdicts(status: &Value, path: &Path, errors: &mut Errors) {
    let mut known = 0;
    for (at, condition) in status.list("conditions").iter().enumerate() {
        // Upstream writes the index as a step of its own.
        let place = path.child("conditions").child(&format!("[{at}]"));
        let kind = condition.text("type");
        if !VERDICTS.contains(&kind) {
            errors.unsupported(&place.child("type"), kind, &VERDICTS);
            continue;
        }
        known += 1;
        if known > 1 {
            let detail =
                r#"There may be at most one condition with type "Issued", "Denied", or "Failed""#;
            errors.invalid(&place.child("type"), kind, detail);
        }
        let state = condition.text("status");
        if state != "True" {
            errors.unsupported(&place.child("status"), state, &["True"]);
        }
    }
}

fn issued(request: &Value, status: &Value, now: i64, errors: &mut Errors) {
    let chain = status.text("certificateChain");
    let path = Path::root("status").child("certificateChain");
    if chain.len() > MAX_CHAIN {
        return errors.push(FieldError::too_long(&path, MAX_CHAIN));
    }
    let blocks = pem::decode(chain).unwrap_or_default();
    let Some((leaf, rest)) = blocks.split_first() else {
        let detail = "issued certificate chain must contain at least one certificate";
        return errors.invalid(&path, chain, detail);
    };
    if leaf.label != "CERTIFICATE" {
        let detail = "issued certificate chain must consist entirely of CERTIFICATE PEM blocks";
        return errors.invalid(&path, chain, detail);
    }
    let Ok(leaf) = Certificate::parse(&leaf.der) else {
        return errors.invalid(&path, chain, "leaf certificate does not parse as valid X.509");
    };
    names(&leaf, &path, errors);
    let Some(wanted) = key(request) else {
        let place = spec().child("stubPKCS10Request");
        let detail = "must be a valid PKCS#10 CSR";
        return errors.push(FieldError::invalid_without_value(&place, detail));
    };
    if wanted != leaf.public_key {
        let detail = "leaf certificate was not issued to the requested public key";
        return errors.invalid(&path, chain, detail);
    }
    times(request, status, &leaf, now, errors);
    if !errors.is_empty() {
        return;
    }
    for block in rest {
        if block.label != "CERTIFICATE" {
            // The letter that is missing is missing upstream, too.
            let detail = "issued certificate chain must consist entirely of CERTFICATE PEM blocks";
            return errors.invalid(&path, chain, detail);
        }
        if Certificate::parse(&block.der).is_err() {
            let detail = "intermediate certificate does not parse as valid X.509";
            return errors.invalid(&path, chain, detail);
        }
    }
}

fn names(leaf: &Certificate, path: &Path, errors: &mut Errors) {
    for name in &leaf.names.dns {
        if name.is_empty() {
            errors.invalid(path, &**name, "leaf certificate should not contain empty DNSName");
        }
        if name.contains("..") {
            let detail = "leaf certificate's DNSName should not contain '..'";
            errors.invalid(path, &**name, detail);
        }
        if name.starts_with('.') || name.ends_with('.') {
            let detail = "leaf certificate's DNSName should not start or end with '.'";
            errors.invalid(path, &**name, detail);
        }
    }
    for address in &leaf.names.emails {
        if !is_address(address) {
            let detail = "leaf certificate should not contain invalid EmailAddress";
            errors.invalid(path, &**address, detail);
        }
    }
}

/// Whether this is `local@domain`, of the characters that mail takes without quotes.
fn is_address(text: &str) -> bool {
    let part = |part: &str| {
        let steps = part.split('.');
        let mut steps = steps.map(|step| {
            let fits =
                |c: char| !c.is_ascii() || c.is_ascii_graphic() && !r#"()<>[]:;@\,.""#.contains(c);
            !step.is_empty() && step.chars().all(fits)
        });
        steps.all(|fits| fits)
    };
    text.rsplit_once('@').is_some_and(|(local, domain)| {
        let literal = domain.starts_with('[') && domain.ends_with(']');
        part(local) && (literal || part(domain))
    })
}

fn times(request: &Value, status: &Value, leaf: &Certificate, now: i64, errors: &mut Errors) {
    let path = |field: &str| Path::root("status").child(field);
    let time = |field: &str| {
        let parsed = time::parse_seconds(status.opt_text(field)?).ok();
        parsed.map(Timestamp::as_second)
    };
    const CONSISTENT: &str = "must be present and consistent with the issued certificate";
    const BETWEEN: &str = "must be present and in the range [notbefore+10min, notafter-10min]";
    let [from, until, refresh] =
        [("notBefore", CONSISTENT), ("notAfter", CONSISTENT), ("beginRefreshAt", BETWEEN)].map(
            |(field, detail)| {
                let found = time(field);
                if found.is_none() {
                    errors.required(&path(field), detail);
                }
                found
            },
        );
    let (Some(from), Some(until), Some(refresh)) = (from, until, refresh) else { return };
    if !errors.is_empty() {
        return;
    }
    let mut refuse = |field: &str, shown: &str, detail: &str| {
        errors.push(FieldError::invalid_shown(&path(field), shown, detail));
    };
    if from != leaf.not_before {
        let detail = "must be set to the NotBefore time encoded in the leaf certificate";
        return refuse("notBefore", &shown(from), detail);
    }
    if (from - now).abs() >= SKEW {
        let detail = "must be set to within 5 minutes of kube-apiserver's current time";
        return refuse("notBefore", &shown(from), detail);
    }
    if until != leaf.not_after {
        let detail = "must be set to the NotAfter time encoded in the leaf certificate";
        return refuse("notAfter", &shown(until), detail);
    }
    let lifetime = until - from;
    let duration = || time::format_duration(lifetime.saturating_mul(1_000_000_000));
    if lifetime < MIN_LIFETIME {
        let detail = "leaf certificate lifetime must be >= 1 hour";
        return refuse("certificateChain", &duration(), detail);
    }
    let most = request.int("maxExpirationSeconds").unwrap_or_default();
    if lifetime > most {
        let detail =
            format!("leaf certificate lifetime must be <= spec.maxExpirationSeconds ({most})");
        return refuse("certificateChain", &duration(), &detail);
    }
    if refresh < from + MARGIN {
        let detail = "must be at least 10 minutes after status.notBefore";
        return refuse("beginRefreshAt", &shown(refresh), detail);
    }
    if refresh > until - MARGIN {
        let detail = "must be at least 10 minutes before status.notAfter";
        refuse("beginRefreshAt", &shown(refresh), detail);
    }
}

/// A time as Go prints it.
fn shown(seconds: i64) -> String {
    let time = Timestamp::from_second(seconds).unwrap_or_default();
    time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string()
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use pki::{
        Authority, Profile,
        proven::{KeyType, Proven},
        request::SigningRequest,
    };

    use super::*;
    use crate::kinds::validation::texts;

    struct Case {
        request: Value,
        status: Value,
        now: i64,
    }

    /// A request and the status that a signer gives it.
    fn case(lifetime: i64) -> Case {
        let ca = Authority::generate("ca").unwrap();
        let proven = Proven::generate(KeyType::P256).unwrap().request;
        let wanted = SigningRequest::parse(&proven).unwrap();
        let profile = Profile::client("a", &[], lifetime);
        let der = ca.issue_for(&profile, &wanted.public_key).unwrap();
        let leaf = Certificate::parse(&der).unwrap();
        let time = |seconds| time::format_seconds(Timestamp::from_second(seconds).unwrap());
        Case {
            now: leaf.not_before,
            request: json!({
                "stubPKCS10Request": STANDARD.encode(proven),
                "maxExpirationSeconds": leaf.not_after - leaf.not_before,
            }),
            status: json!({
                "conditions": [{"type": "Issued", "status": "True", "reason": "R",
                    "lastTransitionTime": "2026-01-01T00:00:00Z"}],
                "certificateChain": pem::encode("CERTIFICATE", &der),
                "notBefore": time(leaf.not_before),
                "notAfter": time(leaf.not_after),
                "beginRefreshAt": time(leaf.not_before + MARGIN),
            }),
        }
    }

    fn wrong(case: &Case) -> Vec<String> {
        let mut errors = Errors::new();
        issued(&case.request, &case.status, case.now, &mut errors);
        texts(&errors)
    }

    #[test]
    fn what_a_signer_issues_fits_the_certificate() {
        let right = case(7200);
        assert_eq!(wrong(&right), [] as [&str; 0]);
        let with = |change: &dyn Fn(&mut Case)| {
            let mut case = case(7200);
            change(&mut case);
            wrong(&case).join("; ")
        };
        assert!(with(&|it| it.now += SKEW).contains("within 5 minutes"));
        assert!(with(&|it| it.request = case(7200).request).contains("requested public key"));
        assert!(with(&|it| it.request["maxExpirationSeconds"] = json!(3600)).contains("(3600)"));
        assert!(with(&|it| it.status["notAfter"] = json!("2026-01-01T00:00:00Z")).starts_with(
            "status.notAfter: Invalid value: 2026-01-01 00:00:00 +0000 UTC: must be set to"
        ));
        assert!(
            with(&|it| it.status["beginRefreshAt"] = it.status["notAfter"].clone())
                .contains("10 minutes before status.notAfter")
        );
        assert!(
            with(&|it| it.status["beginRefreshAt"] = Value::Null).contains(
                "status.beginRefreshAt: Required value: must be present and in the range"
            )
        );
        assert!(with(&|it| it.status["certificateChain"] = json!("")).contains("at least one"));
    }

    #[test]
    fn a_verdict_is_final() {
        let change = |old: Value, new: Value| {
            let mut errors = Errors::new();
            validate(&json!({"status": old}), &json!({"status": new}), &mut errors);
            texts(&errors)
        };
        let verdict = |kind: &str, state: &str| {
            json!({"conditions": [{"type": kind, "status": state, "reason": "R",
                "lastTransitionTime": "2026-01-01T00:00:00Z"}]})
        };
        let nothing = [] as [&str; 0];
        assert_eq!(change(json!({}), verdict("Denied", "True")), nothing);
        assert_eq!(change(verdict("Denied", "True"), verdict("Denied", "True")), nothing);
        assert_eq!(
            change(verdict("Denied", "True"), verdict("Failed", "True")),
            ["status: Invalid value: immutable after PodCertificateRequest is issued, denied, or \
              failed"]
        );
        assert_eq!(
            change(json!({}), verdict("Denied", "False")),
            [
                r#"status.conditions.[0].status: Unsupported value: "False": supported values: "True""#
            ]
        );
        assert_eq!(
            change(json!({}), json!({"certificateChain": "x"})),
            ["status: Invalid value: status is immutable unless transitioning to \"Issued\", \
              \"Denied\", or \"Failed\""]
        );
    }

    #[test]
    fn addresses_of_mail() {
        assert!(is_address("a.b@example.com") && is_address("a@[10.0.0.1]"));
        for bad in ["", "a", "@example.com", "a@", "a b@example.com", "a..b@example.com"] {
            assert!(!is_address(bad), "{bad}");
        }
    }
}
