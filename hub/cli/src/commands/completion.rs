//! `hub completion SHELL`

use crate::output::print_bytes;

#[derive(Debug, clap::Args)]
pub struct Completion {
    shell: clap_complete::Shell,
}

impl Completion {
    pub(crate) fn run(self, mut program: clap::Command) -> anyhow::Result<()> {
        let mut script = Vec::new();
        let name = program.get_name().to_owned();
        clap_complete::generate(self.shell, &mut program, name, &mut script);
        print_bytes(&script)
    }
}
