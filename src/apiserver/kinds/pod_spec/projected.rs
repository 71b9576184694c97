//! Projected volumes: secrets, config maps, the downward API, tokens and certificates in one place.

use apimachinery::field::Path;
use serde_json::Value;

use super::volumes::{downward_file, items};
use crate::kinds::{
    certificates::names::{is_kubernetes_signer, signer_name, trust_bundle_name, user_annotations},
    validation::{Errors, Report as _, file_mode, label_selector, local_path},
    value::Fields as _,
};

const KEY_TYPES: [&str; 6] =
    ["RSA3072", "RSA4096", "ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519"];

pub(super) fn validate(volume: &Value, path: &Path, errors: &mut Errors) {
    file_mode(volume, "defaultMode", path, errors);
    let mut sources = Sources { path, paths: Vec::new(), errors };
    for (at, source) in volume.list("sources").iter().enumerate() {
        sources.check(source, &path.child("sources").index(at));
    }
}

/// The sources of a volume, whose files must not fall upon each other.
struct Sources<'a> {
    /// Of the volume.
    path: &'a Path,
    paths: Vec<String>,
    errors: &'a mut Errors,
}

impl Sources<'_> {
    fn check(&mut self, source: &Value, path: &Path) {
        let mut kinds = 0;
        for field in ["secret", "configMap"] {
            let Some(part) = source.sub(field) else { continue };
            kinds += 1;
            let path = path.child(field);
            if part.text("name").is_empty() {
                self.errors.required(&path.child("name"), "");
            }
            items(part, &path, self.errors);
            for item in part.list("items") {
                self.take(item.text("path"), part.text("name"));
            }
        }
        if let Some(part) = source.sub("downwardAPI") {
            kinds += 1;
            for file in part.list("items") {
                downward_file(file, &path.child("downwardAPI"), self.errors);
                self.take(file.text("path"), file.text("path"));
            }
        }
        if let Some(part) = source.sub("serviceAccountToken") {
            kinds += 1;
            self.token(part, &path.child("serviceAccountToken"));
        }
        if let Some(part) = source.sub("clusterTrustBundle") {
            kinds += 1;
            self.trust_bundle(part, &path.child("clusterTrustBundle"));
        }
        if let Some(part) = source.sub("podCertificate") {
            kinds += 1;
            self.certificate(part, &path.child("podCertificate"));
        }
        if kinds > 1 {
            self.errors.forbidden(path, "may not specify more than 1 volume type per source");
        }
    }

    /// Takes a path for a file; `value` is what messages show for a collision.
    fn take(&mut self, file: &str, value: &str) {
        if file.is_empty() {
            return;
        }
        if self.paths.iter().any(|known| known == file) {
            self.errors.invalid(self.path, value, "conflicting duplicate paths");
        } else {
            self.paths.push(file.to_owned());
        }
    }

    fn token(&mut self, token: &Value, path: &Path) {
        let expiration = path.child("expirationSeconds");
        match token.int("expirationSeconds") {
            None => self.errors.required(&expiration, ""),
            Some(seconds) if seconds < 600 => {
                let detail = "may not specify a duration less than 10 minutes";
                self.errors.invalid(&expiration, seconds, detail);
            }
            Some(seconds) if seconds > 1 << 32 => {
                let detail = "may not specify a duration larger than 2^32 seconds";
                self.errors.invalid(&expiration, seconds, detail);
            }
            Some(_) => {}
        }
        // The path of the volume, not of the source, as upstream reports it.
        match token.text("path") {
            "" => self.errors.required(&self.path.child("path"), ""),
            place => local_path(place, &self.path.child("path"), self.errors),
        }
    }

    fn trust_bundle(&mut self, bundle: &Value, path: &Path) {
        match (bundle.opt_text("name"), bundle.opt_text("signerName")) {
            (Some(_), Some(_)) => {
                let detail = "only one of name and signerName may be used";
                self.errors.invalid(path, bundle.clone(), detail);
            }
            (Some(name), None) => {
                let place = path.child("name");
                if name.is_empty() {
                    self.errors.required(&place, "must be a valid object name");
                }
                for message in trust_bundle_name(name) {
                    let detail = format!("not a valid clustertrustbundlename: {message}");
                    self.errors.invalid(&place, name, &detail);
                }
                if let Some(selector) = bundle.sub("labelSelector") {
                    let detail = "labelSelector must be unset if name is specified";
                    self.errors.invalid(&path.child("labelSelector"), selector.clone(), detail);
                }
            }
            (None, Some(signer)) => {
                let place = path.child("signerName");
                if signer.is_empty() {
                    self.errors.required(&place, "must be a valid signer name");
                }
                signer_name(signer, &place, self.errors);
                label_selector(bundle, "labelSelector", path, self.errors);
            }
            (None, None) => {
                self.errors.required(path, "either name or signerName must be specified");
            }
        }
        let place = bundle.text("path");
        if place.is_empty() {
            self.errors.required(&path.child("path"), "");
        }
        local_path(place, &path.child("path"), self.errors);
        self.take(place, place);
    }

    fn certificate(&mut self, certificate: &Value, path: &Path) {
        let signer = certificate.text("signerName");
        signer_name(signer, &path.child("signerName"), self.errors);
        user_annotations(certificate, "userAnnotations", path, self.errors);
        let key_type = certificate.text("keyType");
        if !KEY_TYPES.contains(&key_type) {
            self.errors.unsupported(&path.child("keyType"), key_type, &KEY_TYPES);
        }
        if let Some(seconds) = certificate.int("maxExpirationSeconds") {
            let place = path.child("maxExpirationSeconds");
            if seconds < 3600 {
                let detail = "if provided, maxExpirationSeconds must be >= 3600";
                self.errors.invalid(&place, seconds, detail);
            }
            let most = if is_kubernetes_signer(signer) { 86_400 } else { 91 * 86_400 };
            if seconds > most {
                let detail = format!("if provided, maxExpirationSeconds must be <= {most}");
                self.errors.invalid(&place, seconds, &detail);
            }
        }
        let mut any = false;
        for field in ["credentialBundlePath", "keyPath", "certificateChainPath"] {
            let place = certificate.text(field);
            if !place.is_empty() {
                any = true;
                local_path(place, &path.child(field), self.errors);
                self.take(place, place);
            }
        }
        if !any {
            let detail =
                "specify at least one of credentialBundlePath, keyPath, and certificateChainPath";
            self.errors.required(path, detail);
        }
    }
}
