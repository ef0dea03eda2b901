//! `admin.kubeconfig`: the way in for whoever can read the hub's data directory.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use protocol::UnixMillis;

use super::users::MASTERS;
use super::{ADMIN_CN, Pki, PkiError, files};

impl Pki {
    /// Writes the file (0600), with a fresh certificate. Copies made before stay valid.
    ///
    /// # Errors
    /// [`PkiError`] where the certificate cannot be made or the file not written.
    pub fn write_admin_kubeconfig(&self, path: &Path, server: &str, now: UnixMillis) -> Result<(), PkiError> {
        let admin = self.authority().issue_client(ADMIN_CN, Some(MASTERS), now)?;
        let text = render(server, self.authority().pem(), &admin.certificate_pem, &admin.key_pem);
        Ok(files::write_atomic(path, text.as_bytes())?)
    }
}

/// Plain YAML by hand: every value is base64 or our own URL, nothing needs quoting.
fn render(server: &str, ca: &str, certificate: &str, key: &str) -> String {
    let [ca, certificate, key] = [ca, certificate, key].map(|pem| BASE64.encode(pem));
    format!(
        "apiVersion: v1
kind: Config
clusters:
- name: wherry
  cluster:
    server: {server}
    certificate-authority-data: {ca}
users:
- name: {ADMIN_CN}
  user:
    client-certificate-data: {certificate}
    client-key-data: {key}
contexts:
- name: wherry
  context:
    cluster: wherry
    user: {ADMIN_CN}
current-context: wherry
"
    )
}
