//! OCI image manifests: which ones are ours to run, and the one that a push makes.

use protocol::ids::Digest;
use serde::{Deserialize, Serialize};

use super::index::Sha256;

pub(crate) const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

/// What tools call a layer that is a Wasm file.
const WASM_TYPES: [&str; 3] = [
    "application/wasm",
    "application/vnd.wasm.content.layer.v1+wasm",
    "application/vnd.bytecodealliance.wasm.component.layer.v0+wasm",
];

/// What CNCF's Wasm artifact layout calls its configuration.
const CONFIG_TYPE: &str = "application/vnd.wasm.config.v0+json";

/// Files for the guest: a tar archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
}

const TAR_TYPES: [(&str, Compression); 3] = [
    ("application/vnd.oci.image.layer.v1.tar", Compression::None),
    ("application/vnd.oci.image.layer.v1.tar+gzip", Compression::Gzip),
    ("application/vnd.oci.image.layer.v1.tar+zstd", Compression::Zstd),
];

/// More data layers than anyone needs; each is a file to keep and to send.
const LAYERS_MAX: usize = 32;

impl Compression {
    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Self::None => TAR_TYPES[0].0,
            Self::Gzip => TAR_TYPES[1].0,
            Self::Zstd => TAR_TYPES[2].0,
        }
    }

    /// From a file's first bytes.
    pub(crate) fn sniff(head: &[u8]) -> Self {
        match head {
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            [0x1f, 0x8b, ..] => Self::Gzip,
            _ => Self::None,
        }
    }
}

/// A manifest, as far as a hub needs to understand it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) config: Blob,
    pub(crate) wasm: Blob,
    pub(crate) files: Vec<(Blob, Compression)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Blob {
    pub(crate) digest: Digest,
    pub(crate) bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    #[error("it is no OCI image manifest: {why}")]
    Malformed { why: String },
    #[error("it is an index of several images; push the one image")]
    Index,
    #[error("its layer has the type {media_type:?}; a hub takes one Wasm layer ({}) and tar layers", WASM_TYPES[0])]
    Layer { media_type: String },
    #[error("it has {count} Wasm layers, not one")]
    WasmLayers { count: usize },
    #[error("it has {count} layers of files; {LAYERS_MAX} is the most")]
    TooManyLayers { count: usize },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    media_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<String>,
    config: Descriptor,
    layers: Vec<Descriptor>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: Sha256,
    size: u64,
}

impl Descriptor {
    fn blob(&self) -> Blob {
        Blob { digest: self.digest.0, bytes: self.size }
    }
}

impl Manifest {
    pub(crate) fn parse(json: &[u8]) -> Result<Self, ManifestError> {
        let malformed = |error: serde_json::Error| ManifestError::Malformed { why: error.to_string() };
        let value: serde_json::Value = serde_json::from_slice(json).map_err(malformed)?;
        if value.get("manifests").is_some() {
            return Err(ManifestError::Index);
        }
        let document: Document = serde_json::from_value(value).map_err(malformed)?;
        if document.schema_version != 2 {
            return Err(ManifestError::Malformed { why: format!("schemaVersion {}, not 2", document.schema_version) });
        }
        let (mut wasm, mut files) = (Vec::new(), Vec::new());
        for layer in &document.layers {
            if WASM_TYPES.contains(&layer.media_type.as_str()) {
                wasm.push(layer.blob());
            } else if let Some((_, compression)) = TAR_TYPES.iter().find(|(name, _)| *name == layer.media_type) {
                files.push((layer.blob(), *compression));
            } else {
                return Err(ManifestError::Layer { media_type: layer.media_type.clone() });
            }
        }
        if files.len() > LAYERS_MAX {
            return Err(ManifestError::TooManyLayers { count: files.len() });
        }
        match wasm.as_slice() {
            [wasm] => Ok(Self { config: document.config.blob(), wasm: *wasm, files }),
            other => Err(ManifestError::WasmLayers { count: other.len() }),
        }
    }

    /// The document; the same image always gives the same bytes, so that pushing twice is one image.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        let descriptor = |media_type: &str, blob: Blob| Descriptor {
            media_type: media_type.to_owned(),
            digest: Sha256(blob.digest),
            size: blob.bytes,
        };
        let mut layers = vec![descriptor(WASM_TYPES[0], self.wasm)];
        layers.extend(self.files.iter().map(|(blob, compression)| descriptor(compression.media_type(), *blob)));
        let document = Document {
            schema_version: 2,
            media_type: Some(MANIFEST_TYPE.to_owned()),
            artifact_type: None,
            config: descriptor(CONFIG_TYPE, self.config),
            layers,
        };
        serde_json::to_vec(&document).expect("a document of strings and numbers has a JSON")
    }

    /// Everything it names.
    pub(crate) fn blobs(&self) -> impl Iterator<Item = Blob> {
        [self.config, self.wasm].into_iter().chain(self.files.iter().map(|(blob, _)| *blob))
    }
}

/// The configuration blob of a Wasm artifact.
pub(crate) fn config_json(wasm: Digest, imports: &[String], exports: &[String]) -> Vec<u8> {
    let config = serde_json::json!({
        "architecture": "wasm",
        "os": "wasip2",
        "layerDigests": [wasm.to_string()],
        "component": {"imports": imports, "exports": exports},
    });
    config.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn layer(media_type: &str) -> serde_json::Value {
        json!({"mediaType": media_type, "digest": Digest::of(media_type.as_bytes()).to_string(), "size": 7})
    }

    fn check(layers: &[&str], expected: &str) {
        let layers: Vec<_> = layers.iter().map(|layer_type| layer(layer_type)).collect();
        let document = json!({"schemaVersion": 2, "config": layer("config"), "layers": layers});
        let got = match Manifest::parse(document.to_string().as_bytes()) {
            Ok(manifest) => {
                let types: Vec<_> = manifest.files.iter().map(|(_, compression)| format!("{compression:?}")).collect();
                format!("wasm {}", types.join(" ")).trim_end().to_owned()
            }
            Err(error) => error.to_string(),
        };
        assert_eq!(got, expected);
    }

    #[test]
    fn one_wasm_layer_and_any_files() {
        for wasm in WASM_TYPES {
            check(&[wasm], "wasm");
        }
        let [none, gzip, zstd] = TAR_TYPES.map(|(name, _)| name);
        check(&[gzip, "application/wasm", zstd, none], "wasm Gzip Zstd None");
        check(&[gzip], "it has 0 Wasm layers, not one");
        check(&["application/wasm", "application/wasm"], "it has 2 Wasm layers, not one");
        let many = [&["application/wasm"][..], &[gzip; LAYERS_MAX + 1]].concat();
        check(&many, "it has 33 layers of files; 32 is the most");
    }

    #[test]
    fn other_artifacts_are_told_what_is_missing() {
        let jar =
            r#"its layer has the type "text/plain"; a hub takes one Wasm layer (application/wasm) and tar layers"#;
        check(&["text/plain"], jar);
        let index = json!({"schemaVersion": 2, "manifests": []}).to_string();
        assert_eq!(Manifest::parse(index.as_bytes()), Err(ManifestError::Index));
        for hostile in ["", "[]", "null", "{", r#"{"schemaVersion":1,"config":{},"layers":[]}"#] {
            assert!(matches!(Manifest::parse(hostile.as_bytes()), Err(ManifestError::Malformed { .. })), "{hostile}");
        }
    }

    #[test]
    fn a_manifest_survives_its_json() {
        let blob = |text: &str| Blob { digest: Digest::of(text.as_bytes()), bytes: 9 };
        let files = vec![(blob("f"), Compression::Zstd), (blob("g"), Compression::Gzip)];
        let manifest = Manifest { config: blob("c"), wasm: blob("w"), files };
        assert_eq!(Manifest::parse(&manifest.to_json()).unwrap(), manifest);
    }

    #[test]
    fn compression_shows_in_the_first_bytes() {
        assert_eq!(Compression::sniff(b"\x28\xb5\x2f\xfd..."), Compression::Zstd);
        assert_eq!(Compression::sniff(b"\x1f\x8b\x08"), Compression::Gzip);
        assert_eq!(Compression::sniff(b"hello.txt\0"), Compression::None);
        assert_eq!(Compression::sniff(b""), Compression::None);
    }
}
