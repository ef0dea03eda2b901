//! `hub logs POD`

use anyhow::bail;
use http_body_util::BodyExt;
use std::time::Duration;

use super::duration::seconds;
use super::target::place;
use crate::client::{Call, ClientError};
use crate::connect::Connect;
use crate::output::print_bytes;
use crate::resources::{Place, encode};

/// A node behind a slow link may take a while to begin.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Debug, clap::Args)]
pub struct Logs {
    /// The pod's name
    pod: String,

    /// Namespace [default: the kubeconfig's]
    #[arg(short, long)]
    namespace: Option<String>,

    /// Which container, where there are several
    #[arg(short, long)]
    container: Option<String>,

    /// Go on as more is printed
    #[arg(short, long)]
    follow: bool,

    /// Of the instance before the last restart
    #[arg(short, long)]
    previous: bool,

    /// Only the last lines
    #[arg(long, value_name = "LINES")]
    tail: Option<u64>,

    /// Only what is newer than this, such as 30s, 5m or 2h
    #[arg(long, value_name = "DURATION", value_parser = seconds)]
    since: Option<u64>,

    /// The time before each line
    #[arg(long)]
    timestamps: bool,

    #[command(flatten)]
    connect: Connect,
}

impl Logs {
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let mut connected = self.connect.open()?;
        let Place::One(namespace) = place(self.namespace.as_ref(), &connected) else {
            bail!("logs are of one namespace");
        };
        let response = connected.client.send(Call::get(self.path(&namespace)).patience(PATIENCE)).await?;
        let server = connected.client.server();
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|source| ClientError::Lost { server: server.clone(), source })?;
            if let Ok(bytes) = frame.into_data() {
                print_bytes(&bytes)?;
            }
        }
        Ok(())
    }

    fn path(&self, namespace: &str) -> String {
        let pod = ["pod/", "pods/", "po/"].iter().find_map(|kind| self.pod.strip_prefix(kind)).unwrap_or(&self.pod);
        let mut query: Vec<String> = Vec::new();
        let numbers = [("tailLines", self.tail), ("sinceSeconds", self.since)];
        query.extend(numbers.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", value?))));
        query.extend(self.container.as_ref().map(|name| format!("container={}", encode(name))));
        let switches = [("follow", self.follow), ("previous", self.previous), ("timestamps", self.timestamps)];
        query.extend(switches.into_iter().filter(|(_, on)| *on).map(|(name, _)| format!("{name}=true")));
        let path = format!("/api/v1/namespaces/{}/pods/{}/log", encode(namespace), encode(pod));
        if query.is_empty() { path } else { format!("{path}?{}", query.join("&")) }
    }
}
