//! `hub kubeconfig`

use anyhow::Context;

use crate::connect::Connect;
use crate::output::print_bytes;

#[derive(Debug, clap::Args)]
pub struct Kubeconfig {
    #[command(flatten)]
    connect: Connect,
}

impl Kubeconfig {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let path = self.connect.path()?;
        let text = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        print_bytes(&text)
    }
}
