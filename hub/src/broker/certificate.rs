//! A certificate for a broker of someone else's: nodes and hub trust our CA, so the broker's comes from there.

use std::path::{Path, PathBuf};

use protocol::UnixMillis;

use crate::pki::{Authority, FileError, IssueError, write_private};

/// `hub broker-certificate`: run where the hub's data directory is.
#[derive(Debug, Clone, clap::Args)]
pub struct Wish {
    /// The hub's data directory
    #[arg(long, env = "WHERRY_DATA_DIR", value_name = "DIR", default_value = "wherry-data")]
    pub data_dir: PathBuf,

    /// Name or address by which hub and nodes reach the broker (may be repeated)
    #[arg(long = "name", value_name = "NAME", required = true)]
    pub names: Vec<String>,

    /// Where broker.pem, broker.key and ca.crt go [default: the data directory's keys]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error("there is no hub in {path}; start it once with: hub serve --data-dir {path}")]
    NoHub { path: PathBuf },
    #[error("cannot make the certificate")]
    Issue(#[from] IssueError),
    #[error("cannot keep the certificate")]
    File(#[from] FileError),
}

/// Writes the files (0600) and answers their paths.
///
/// # Errors
/// [`CertificateError`]
pub fn write(wish: &Wish, now: UnixMillis) -> Result<[PathBuf; 3], CertificateError> {
    let keys = wish.data_dir.join("keys");
    let authority = keys.join("ca.pem");
    if !authority.exists() {
        return Err(CertificateError::NoHub { path: wish.data_dir.clone() });
    }
    let authority = Authority::open(&authority)?;
    let issued = authority.issue_server(&wish.names, now)?;
    let out: &Path = wish.out.as_deref().unwrap_or(&keys);
    let [certificate, key, ca] = ["broker.pem", "broker.key", "ca.crt"].map(|name| out.join(name));
    write_private(&certificate, issued.certificate_pem.as_bytes())?;
    write_private(&key, issued.key_pem.as_bytes())?;
    write_private(&ca, authority.pem().as_bytes())?;
    Ok([certificate, key, ca])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_needs_a_hub_and_makes_three_files() {
        let directory = tempfile::tempdir().unwrap();
        let wish = Wish { data_dir: directory.path().to_owned(), names: vec!["127.0.0.1".into()], out: None };
        assert!(matches!(write(&wish, UnixMillis(0)), Err(CertificateError::NoHub { .. })));
        std::fs::create_dir(directory.path().join("keys")).unwrap();
        Authority::open(&directory.path().join("keys/ca.pem")).unwrap();
        assert!(write(&wish, UnixMillis(0)).unwrap().iter().all(|path| path.exists()));
    }
}
