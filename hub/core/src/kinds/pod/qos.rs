//! A pod's class of service, from its requests and limits: who goes first when memory runs out.

use serde_json::Value;

use crate::object::Object;
use crate::quantity::Quantity;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum QosClass {
    /// Every container limits CPU and memory, and asks for exactly that.
    Guaranteed,
    Burstable,
    /// No container asks for or limits anything.
    BestEffort,
}

impl QosClass {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
}

pub(crate) fn class(pod: &Object) -> QosClass {
    let lists = [pod.at(&["spec", "initContainers"]), pod.at(&["spec", "containers"])];
    let containers: Vec<&Value> = lists.into_iter().flatten().filter_map(Value::as_array).flatten().collect();
    let amount = |container: &Value, list: &str, name: &str| {
        let amount = container.get("resources")?.get(list)?.get(name)?;
        Quantity::from_json(amount).ok().filter(|amount| !amount.is_zero())
    };
    let asks = |container: &&Value| {
        let any = |list: &str| ["cpu", "memory"].iter().any(|name| amount(container, list, name).is_some());
        any("requests") || any("limits")
    };
    let is_exact = |container: &&Value| {
        ["cpu", "memory"].iter().all(|name| {
            let limit = amount(container, "limits", name);
            limit.is_some() && amount(container, "requests", name).or(limit) == limit
        })
    };
    if !containers.iter().any(asks) {
        QosClass::BestEffort
    } else if containers.iter().all(is_exact) {
        QosClass::Guaranteed
    } else {
        QosClass::Burstable
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::class;
    use crate::object::Object;

    #[track_caller]
    fn check(resources: &[Value], want: &str) {
        let containers: Vec<Value> = resources.iter().map(|r| json!({"resources": r})).collect();
        let pod = Object::from_value(json!({"spec": {"containers": containers}})).unwrap();
        assert_eq!(class(&pod).as_str(), want, "{resources:?}");
    }

    #[test]
    fn classes() {
        let full = json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1Gi"}});
        check(&[json!({})], "BestEffort");
        check(&[json!({"requests": {"cpu": "0"}})], "BestEffort");
        check(std::slice::from_ref(&full), "Guaranteed");
        check(&[full.clone(), json!({})], "Burstable");
        check(&[json!({"limits": {"cpu": "1", "memory": "1Gi"}})], "Guaranteed");
        check(&[json!({"limits": {"memory": "1Gi"}})], "Burstable");
        check(&[json!({"limits": {"cpu": 1, "memory": "1Gi"}, "requests": {"cpu": "1m"}})], "Burstable");
    }
}
