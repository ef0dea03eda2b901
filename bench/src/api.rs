//! The Kubernetes API over one keep-alive connection.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

pub struct Api {
    agent: ureq::Agent,
    base: String,
}

impl Api {
    /// # Errors
    /// The kubeconfig is not as the hub writes it.
    pub fn new(kubeconfig: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(kubeconfig)?;
        let config: Value = serde_yaml_ng::from_str(&text)?;
        let pem =
            |value: &Value| -> Result<Vec<u8>> { Ok(STANDARD.decode(value.as_str().context("a field is missing")?)?) };
        let (cluster, user) = (&config["clusters"][0]["cluster"], &config["users"][0]["user"]);
        let roots: Vec<Certificate<'static>> = parse_pem(&pem(&cluster["certificate-authority-data"])?)
            .filter_map(|item| match item {
                Ok(PemItem::Certificate(certificate)) => Some(certificate),
                _ => None,
            })
            .collect();
        let certificate = Certificate::from_pem(&pem(&user["client-certificate-data"])?)?;
        let key = PrivateKey::from_pem(&pem(&user["client-key-data"])?)?;
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::Specific(Arc::new(roots)))
            .client_cert(Some(ClientCert::new_with_certs(&[certificate], key)))
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .build();
        let agent =
            ureq::Agent::config_builder().tls_config(tls).timeout_connect(Some(Duration::from_secs(5))).build().into();
        let base = cluster["server"].as_str().context("no server")?.to_owned();
        Ok(Self { agent, base })
    }

    /// # Errors
    /// The request failed.
    pub fn get(&self, path: &str) -> Result<Value> {
        let mut answer =
            self.agent.get(format!("{}{path}", self.base)).call().with_context(|| format!("GET {path}"))?;
        Ok(serde_json::from_reader(answer.body_mut().as_reader())?)
    }

    /// # Errors
    /// The request failed.
    pub fn post(&self, path: &str, object: &Value) -> Result<Value> {
        let request = self.agent.post(format!("{}{path}", self.base)).content_type("application/json");
        let mut answer = request.send(object.to_string().as_bytes()).with_context(|| format!("POST {path}"))?;
        Ok(serde_json::from_reader(answer.body_mut().as_reader())?)
    }

    /// # Errors
    /// The request failed.
    pub fn delete(&self, path: &str) -> Result<()> {
        self.agent.delete(format!("{}{path}", self.base)).call().with_context(|| format!("DELETE {path}"))?;
        Ok(())
    }

    /// Watches a path until `done` says so about an object.
    ///
    /// # Errors
    /// The watch ended before.
    pub fn watch(&self, path: &str, mut done: impl FnMut(&Value) -> bool) -> Result<()> {
        let answer = self.agent.get(format!("{}{path}", self.base)).call().with_context(|| format!("GET {path}"))?;
        for line in BufReader::new(answer.into_body().into_reader()).lines() {
            let event: Value = serde_json::from_str(&line?)?;
            if done(&event["object"]) {
                return Ok(());
            }
        }
        bail!("the watch of {path} ended")
    }
}
