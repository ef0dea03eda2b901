//! Kubeconfig files, as far as a client with a certificate or a token needs them.

use std::path::Path;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::Deserialize;

const DEFAULT_NAMESPACE: &str = "default";

#[derive(Debug, thiserror::Error)]
pub(crate) enum KubeconfigError {
    #[error("it is no kubeconfig")]
    Yaml(#[source] serde_yaml_ng::Error),
    #[error("it has no {kind} {name:?}")]
    Missing { kind: &'static str, name: String },
    #[error("its {field} cannot be used")]
    Field {
        field: &'static str,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("its server {server:?} is no https://HOST:PORT")]
    Server { server: String },
    #[error("it turns certificate checks off (insecure-skip-tls-verify), which hub does not do")]
    Insecure,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Kubeconfig {
    #[serde(default)]
    current_context: String,
    #[serde(default)]
    clusters: Vec<NamedCluster>,
    #[serde(default)]
    users: Vec<NamedUser>,
    #[serde(default)]
    contexts: Vec<NamedContext>,
}

#[derive(Debug, Deserialize)]
struct NamedCluster {
    name: String,
    cluster: Cluster,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Cluster {
    server: String,
    certificate_authority: Option<String>,
    certificate_authority_data: Option<String>,
    #[serde(default)]
    insecure_skip_tls_verify: bool,
}

#[derive(Debug, Deserialize)]
struct NamedUser {
    name: String,
    #[serde(default)]
    user: Credentials,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Credentials {
    client_certificate: Option<String>,
    client_certificate_data: Option<String>,
    client_key: Option<String>,
    client_key_data: Option<String>,
    token: Option<String>,
}

#[derive(Debug, Deserialize)]
struct NamedContext {
    name: String,
    context: Context,
}

#[derive(Debug, Deserialize)]
struct Context {
    cluster: String,
    user: String,
    namespace: Option<String>,
}

/// What a kubeconfig comes to: where to connect, and as whom.
pub(crate) struct Target {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) ca: Vec<CertificateDer<'static>>,
    pub(crate) identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    pub(crate) token: Option<String>,
    pub(crate) namespace: String,
}

impl FromStr for Kubeconfig {
    type Err = KubeconfigError;

    fn from_str(text: &str) -> Result<Self, KubeconfigError> {
        serde_yaml_ng::from_str(text).map_err(KubeconfigError::Yaml)
    }
}

impl Kubeconfig {
    /// Follows the current context. Files it names lie relative to `folder`.
    pub(crate) fn target(self, folder: &Path) -> Result<Target, KubeconfigError> {
        let missing = |kind, name: &str| KubeconfigError::Missing { kind, name: name.to_owned() };
        let context = self.contexts.into_iter().find(|context| context.name == self.current_context);
        let context = context.ok_or_else(|| missing("context", &self.current_context))?.context;
        let cluster = self.clusters.into_iter().find(|cluster| cluster.name == context.cluster);
        let cluster = cluster.ok_or_else(|| missing("cluster", &context.cluster))?.cluster;
        let user = self.users.into_iter().find(|user| user.name == context.user);
        let user = user.ok_or_else(|| missing("user", &context.user))?.user;
        if cluster.insecure_skip_tls_verify {
            return Err(KubeconfigError::Insecure);
        }
        let (host, port) = host_and_port(&cluster.server)?;
        let pem = |field, data: Option<&String>, file: Option<&String>| read_pem(field, data, file, folder);
        let ca = pem(
            "certificate-authority",
            cluster.certificate_authority_data.as_ref(),
            cluster.certificate_authority.as_ref(),
        )?;
        let certificate =
            pem("client-certificate", user.client_certificate_data.as_ref(), user.client_certificate.as_ref())?;
        let key = pem("client-key", user.client_key_data.as_ref(), user.client_key.as_ref())?;
        let identity = match (certificate, key) {
            (Some(certificate), Some(key)) => {
                Some((certificates("client-certificate", &certificate)?, private_key(&key)?))
            }
            (Some(_), None) | (None, Some(_)) | (None, None) => None,
        };
        Ok(Target {
            host,
            port,
            ca: ca.map(|pem| certificates("certificate-authority", &pem)).transpose()?.unwrap_or_default(),
            identity,
            token: user.token,
            namespace: context.namespace.unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned()),
        })
    }
}

/// `https://host:port`, with 443 as HTTPS has it; IPv6 addresses stand in brackets.
fn host_and_port(server: &str) -> Result<(String, u16), KubeconfigError> {
    let parsed = server.strip_prefix("https://").and_then(|rest| {
        let rest = rest.trim_end_matches('/');
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port.parse().ok()?),
            Some(_) | None => (rest, 443),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        (!host.is_empty() && !host.contains('/')).then(|| (host.to_owned(), port))
    });
    parsed.ok_or_else(|| KubeconfigError::Server { server: server.to_owned() })
}

fn read_pem(
    field: &'static str,
    data: Option<&String>,
    file: Option<&String>,
    folder: &Path,
) -> Result<Option<Vec<u8>>, KubeconfigError> {
    match (data, file) {
        (Some(data), _) => BASE64.decode(data).map(Some).map_err(|error| wrong(field, error)),
        (None, Some(file)) => std::fs::read(folder.join(file)).map(Some).map_err(|error| wrong(field, error)),
        (None, None) => Ok(None),
    }
}

fn certificates(field: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, KubeconfigError> {
    rustls_pemfile::certs(&mut &*pem).collect::<Result<_, _>>().map_err(|error| wrong(field, error))
}

fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, KubeconfigError> {
    let key = rustls_pemfile::private_key(&mut &*pem).map_err(|error| wrong("client-key", error))?;
    key.ok_or_else(|| wrong("client-key", "there is no private key in it"))
}

fn wrong(field: &'static str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> KubeconfigError {
    KubeconfigError::Field { field, source: source.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(yaml: &str, expected: &str) {
        let target = yaml.parse::<Kubeconfig>().and_then(|kubeconfig| kubeconfig.target(Path::new("/nonexistent")));
        let got = match target {
            Ok(target) => {
                let token = target.token.as_deref().unwrap_or("-");
                format!("{} {} {token} in {}", target.host, target.port, target.namespace)
            }
            Err(error) => error.to_string(),
        };
        assert_eq!(got, expected, "{yaml}");
    }

    fn yaml(server: &str, user: &str) -> String {
        format!(
            "current-context: c\nclusters: [{{name: k, cluster: {{server: '{server}'}}}}]\nusers: [{{name: u, user: {user}}}]\n\
             contexts: [{{name: c, context: {{cluster: k, user: u, namespace: lab}}}}]\n"
        )
    }

    #[test]
    fn contexts_are_followed() {
        check(&yaml("https://pi.local:6443", "{token: t}"), "pi.local 6443 t in lab");
        check(&yaml("https://[::1]:6443/", "{}"), "::1 6443 - in lab");
        check(&yaml("https://[::1]", "{}"), "::1 443 - in lab");
        check(&yaml("https://pi.local", "{}").replace(", namespace: lab", ""), "pi.local 443 - in default");
    }

    #[test]
    fn mistakes_are_named() {
        check("[]", "it is no kubeconfig");
        check("{}", "it has no context \"\"");
        check(&yaml("http://pi:1", "{}"), "its server \"http://pi:1\" is no https://HOST:PORT");
        check(&yaml("https://pi:x", "{}"), "its server \"https://pi:x\" is no https://HOST:PORT");
        check(&yaml("https://pi", "{}").replace("user: u,", "user: v,"), "it has no user \"v\"");
        check(&yaml("https://pi", "{client-key-data: '!'}"), "its client-key cannot be used");
        check(&yaml("https://pi", "{client-key: no-such-file}"), "its client-key cannot be used");
        let insecure = yaml("https://pi", "{}").replace("'https://pi'", "'https://pi', insecure-skip-tls-verify: true");
        check(&insecure, "it turns certificate checks off (insecure-skip-tls-verify), which hub does not do");
    }
}
