//! The table of pod fields that Wherry does not honour: refused where a workload would depend on
//! it, ignored with a warning where it would not.
//!
//! A rule names a field below the pod's spec; `[]` stands for every item of a list, and
//! `*containers` for containers and init containers alike.

use serde_json::Value;

use crate::kinds::field::{Errors, Path};

#[derive(Debug, Clone, Copy)]
struct Rule {
    field: &'static str,
    /// Which values it is about.
    when: When,
    treatment: Treatment,
}

#[derive(Debug, Clone, Copy)]
enum When {
    /// Anything but nothing: `null`, `""`, `false`, `0`, `[]` and `{}` ask for nothing.
    Set,
    IsNot(&'static str),
    True,
}

#[derive(Debug, Clone, Copy)]
enum Treatment {
    /// With the reason.
    Refused(&'static str),
    /// With what holds instead.
    Ignored(&'static str),
}

use Treatment::{Ignored, Refused};
use When::{IsNot, Set, True};

const fn rule(field: &'static str, when: When, treatment: Treatment) -> Rule {
    Rule { field, when, treatment }
}

const NO_HOST: &str = "WebAssembly pods are apart from their node; they have a virtual address of their own";
const NO_PRIVILEGE: &str = "WebAssembly guests have no privileges to raise; host capabilities are granted one by one";
const NO_USERS: &str = "WebAssembly guests run as no user";
const NO_LINUX: &str = "WebAssembly guests make no system calls";
const NO_STDIN: &str = "standard input is empty";
const SPREAD: &str = "pods of one owner are spread over nodes";
const NOT_YET: &str = "is not supported yet";

const RULES: &[Rule] = &[
    // What would need another kind of node.
    rule("hostNetwork", True, Refused(NO_HOST)),
    rule("hostPID", True, Refused(NO_HOST)),
    rule("hostIPC", True, Refused(NO_HOST)),
    rule("shareProcessNamespace", True, Refused("WebAssembly guests share no processes")),
    rule("os.name", IsNot("linux"), Refused("nodes run linux")),
    rule("runtimeClassName", IsNot("wasm"), Refused("the only runtime class is \"wasm\"")),
    rule("resourceClaims", Set, Refused("devices are granted by extended resources, not by claims")),
    rule("ephemeralContainers", Set, Refused("debug containers are not supported")),
    rule("overhead", Set, Refused("overhead comes from a runtime class")),
    rule("hostAliases", Set, Refused("guests have no hosts file; names are Services")),
    rule("hostnameOverride", Set, Refused("set hostname instead")),
    rule("schedulingGates", Set, Refused(NOT_YET)),
    rule("schedulingGroup", Set, Refused(NOT_YET)),
    rule("resources", Set, Refused("set the containers' resources instead")),
    // Scheduling that this version does not do.
    rule("affinity.podAffinity.preferredDuringSchedulingIgnoredDuringExecution", Set, Ignored(SPREAD)),
    rule("affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution", Set, Ignored(SPREAD)),
    rule("schedulerName", IsNot("default-scheduler"), Ignored("the hub's own scheduler places every pod")),
    rule("priorityClassName", Set, Ignored("no pod preempts another")),
    // Harmless on a WebAssembly node.
    rule("dnsPolicy", IsNot("ClusterFirst"), Ignored("the agent looks names up")),
    rule("dnsConfig", Set, Ignored("the agent looks names up")),
    rule("serviceAccountName", IsNot("default"), Ignored("pods get no credentials")),
    rule("automountServiceAccountToken", True, Ignored("pods get no credentials")),
    rule("imagePullSecrets", Set, Ignored("images come from the hub's registry")),
    rule("setHostnameAsFQDN", True, Ignored("guests see their short host name")),
    rule("hostUsers", True, Ignored(NO_USERS)),
    rule("securityContext.runAsUser", Set, Ignored(NO_USERS)),
    rule("securityContext.runAsGroup", Set, Ignored(NO_USERS)),
    rule("securityContext.runAsNonRoot", True, Ignored(NO_USERS)),
    rule("securityContext.supplementalGroups", Set, Ignored(NO_USERS)),
    rule("securityContext.fsGroup", Set, Ignored(NO_USERS)),
    rule("securityContext.sysctls", Set, Refused(NO_LINUX)),
    rule("securityContext.windowsOptions", Set, Refused("nodes run linux")),
    rule("securityContext.seccompProfile", Set, Ignored(NO_LINUX)),
    rule("securityContext.appArmorProfile", Set, Ignored(NO_LINUX)),
    rule("securityContext.seLinuxOptions", Set, Ignored(NO_LINUX)),
    // Containers.
    rule("*containers[].securityContext.privileged", True, Refused(NO_PRIVILEGE)),
    rule("*containers[].securityContext.capabilities.add", Set, Refused(NO_PRIVILEGE)),
    rule("*containers[].securityContext.windowsOptions", Set, Refused("nodes run linux")),
    rule("*containers[].securityContext.allowPrivilegeEscalation", True, Ignored(NO_PRIVILEGE)),
    rule("*containers[].securityContext.runAsUser", Set, Ignored(NO_USERS)),
    rule("*containers[].securityContext.runAsGroup", Set, Ignored(NO_USERS)),
    rule("*containers[].securityContext.runAsNonRoot", True, Ignored(NO_USERS)),
    rule("*containers[].securityContext.readOnlyRootFilesystem", True, Ignored("a guest's root is always read-only")),
    rule("*containers[].securityContext.seccompProfile", Set, Ignored(NO_LINUX)),
    rule("*containers[].securityContext.appArmorProfile", Set, Ignored(NO_LINUX)),
    rule("*containers[].securityContext.seLinuxOptions", Set, Ignored(NO_LINUX)),
    rule("*containers[].volumeDevices", Set, Refused("there are no block devices")),
    rule("*containers[].resources.claims", Set, Refused("devices are granted by extended resources, not by claims")),
    rule("*containers[].resizePolicy", Set, Ignored("new resources restart the pod")),
    rule("*containers[].restartPolicyRules", Set, Refused(NOT_YET)),
    rule("initContainers[].restartPolicy", Set, Refused("sidecar containers are not supported yet")),
    rule("containers[].restartPolicy", Set, Refused("set the pod's restartPolicy instead")),
    rule("*containers[].ports[].hostPort", Set, Refused("ports of the node are not served yet")),
    rule("*containers[].stdin", True, Ignored(NO_STDIN)),
    rule("*containers[].tty", True, Ignored(NO_STDIN)),
    rule(
        "*containers[].terminationMessagePath",
        IsNot("/dev/termination-log"),
        Ignored("messages come from the runtime"),
    ),
    rule("*containers[].terminationMessagePolicy", IsNot("File"), Ignored("messages come from the runtime")),
    rule("*containers[].lifecycle.stopSignal", Set, Ignored("guests are asked to stop through wherry:pod/lifecycle")),
    rule("*containers[].volumeMounts[].mountPropagation", IsNot("None"), Refused("guests mount nothing themselves")),
    rule("*containers[].volumeMounts[].subPathExpr", Set, Refused("use subPath")),
    rule("*containers[].livenessProbe.grpc", Set, Refused("grpc probes are not supported yet")),
    rule("*containers[].readinessProbe.grpc", Set, Refused("grpc probes are not supported yet")),
    rule("*containers[].startupProbe.grpc", Set, Refused("grpc probes are not supported yet")),
    // Volumes; sources that are not served at all are `volume`'s to refuse.
    rule("volumes[].emptyDir.medium", Set, Ignored("the node's disk holds it")),
    rule("volumes[].projected.sources[].serviceAccountToken", Set, Refused("pods get no credentials")),
    rule("volumes[].projected.sources[].clusterTrustBundle", Set, Refused(NOT_YET)),
    rule("volumes[].projected.sources[].podCertificate", Set, Refused(NOT_YET)),
];

/// An error for each field that cannot be honoured.
pub(in crate::kinds) fn refuse(errors: &mut Errors, path: &Path, spec: &Value) {
    for_each_match(path, spec, &mut |path, treatment| match treatment {
        Refused(reason) => errors.forbidden(path, reason),
        Ignored(_) => (),
    });
}

/// A text for each field that is accepted and has no effect.
pub(in crate::kinds) fn warnings(path: &Path, spec: &Value) -> Vec<String> {
    let mut warnings = Vec::new();
    for_each_match(path, spec, &mut |path, treatment| match treatment {
        Ignored(instead) => warnings.push(format!("{path}: ignored: {instead}")),
        Refused(_) => (),
    });
    warnings
}

fn for_each_match(path: &Path, spec: &Value, found: &mut dyn FnMut(&Path, Treatment)) {
    for rule in RULES {
        match rule.field.strip_prefix('*') {
            Some(field) => {
                visit(path, spec, field, rule, found);
                visit(path, spec, &format!("initC{}", &field[1..]), rule, found);
            }
            None => visit(path, spec, rule.field, rule, found),
        }
    }
}

fn visit(path: &Path, value: &Value, field: &str, rule: &Rule, found: &mut dyn FnMut(&Path, Treatment)) {
    let (step, rest) = field.split_once('.').map_or((field, None), |(step, rest)| (step, Some(rest)));
    let mut descend = |path: &Path, value: &Value| match rest {
        Some(rest) => visit(path, value, rest, rule, found),
        None if rule.when.holds(value) => found(path, rule.treatment),
        None => (),
    };
    match step.strip_suffix("[]") {
        Some(list) => {
            let path = path.field(list);
            for (at, item) in value.get(list).and_then(Value::as_array).into_iter().flatten().enumerate() {
                descend(&path.index(at), item);
            }
        }
        None => {
            if let Some(next) = value.get(step) {
                descend(&path.field(step), next);
            }
        }
    }
}

impl When {
    fn holds(self, value: &Value) -> bool {
        match self {
            Set => is_something(value),
            IsNot(usual) => is_something(value) && value.as_str() != Some(usual),
            True => value == &Value::Bool(true),
        }
    }
}

fn is_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(_) => value.as_i64() != Some(0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Ignored, IsNot, RULES, Refused, Rule, Set, True, refuse, warnings};
    use crate::kinds::field::{Errors, Path};

    #[track_caller]
    fn check(spec: &Value, refused: &[&str], ignored: &[&str]) {
        let mut errors = Errors::default();
        refuse(&mut errors, &Path::new("spec"), spec);
        let found: Vec<String> = errors.into_vec().into_iter().map(|e| e.path).collect();
        assert_eq!(found, refused, "refused of {spec}");
        let warned = warnings(&Path::new("spec"), spec);
        let fields: Vec<&str> = warned.iter().map(|text| text.split(": ").next().unwrap()).collect();
        assert_eq!(fields, ignored, "ignored of {spec}");
    }

    #[test]
    fn fields_are_found_wherever_they_stand() {
        check(&json!({}), &[], &[]);
        check(&json!({"hostNetwork": true, "hostPID": false}), &["spec.hostNetwork"], &[]);
        check(&json!({"dnsPolicy": "Default"}), &[], &["spec.dnsPolicy"]);
        check(&json!({"dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler"}), &[], &[]);
        check(
            &json!({
                "containers": [{}, {"securityContext": {"privileged": true, "runAsUser": 1000}}],
                "initContainers": [{"tty": true, "restartPolicy": "Always"}],
            }),
            &["spec.containers[1].securityContext.privileged", "spec.initContainers[0].restartPolicy"],
            &["spec.containers[1].securityContext.runAsUser", "spec.initContainers[0].tty"],
        );
        check(&json!({"securityContext": {"runAsUser": 0}, "containers": [{"ports": [{"hostPort": 0}]}]}), &[], &[]);
        check(&json!({"containers": [{"ports": [{"hostPort": 80}]}]}), &["spec.containers[0].ports[0].hostPort"], &[]);
        check(&json!({"volumes": [{"emptyDir": {"medium": "Memory"}}]}), &[], &["spec.volumes[0].emptyDir.medium"]);
        check(&json!({"containers": 3, "volumes": [1, null]}), &[], &[]);
        check(&json!({"os": {"name": "windows"}}), &["spec.os.name"], &[]);
    }

    #[test]
    fn a_warning_says_what_holds_instead() {
        let spec = json!({"containers": [{"tty": true}]});
        assert_eq!(warnings(&Path::new("spec"), &spec), ["spec.containers[0].tty: ignored: standard input is empty"]);
    }

    /// The table as documented for users.
    fn documented() -> String {
        let row = |rule: &Rule| {
            let when = match rule.when {
                Set => String::new(),
                True => " (if true)".to_owned(),
                IsNot(usual) => format!(" (unless `{usual}`)"),
            };
            let (what, why) = match rule.treatment {
                Refused(why) => ("refused", why),
                Ignored(why) => ("ignored", why),
            };
            format!("| `{}`{when} | {what} | {why} |\n", rule.field.trim_start_matches('*'))
        };
        RULES.iter().map(row).collect()
    }

    #[test]
    fn the_documented_table_is_this_one() {
        let page = include_str!("../../../../../docs/pod-fields.md");
        let table = documented();
        assert!(page.contains(&table), "docs/pod-fields.md shall hold these rows:\n{table}");
    }
}
