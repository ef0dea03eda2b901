//! `kubectl logs`: which container is meant, and the stream from its node.

use axum::body::Body;
use axum::response::Response;
use futures_util::StreamExt as _;
use http::header::{CONTENT_TYPE, HeaderValue};
use hub_core::object::Object;
use hub_core::status::ApiError;
use hub_core::time;
use protocol::ids::{ContainerName, NodeName, PodUid, UnixMillis};
use protocol::stream::LogsRequest;
use serde_json::Value;
use tracing::debug;

use super::answer::Failure;
use super::params::Params;
use super::{Api, Call};
use crate::fleet::StreamError;

pub(super) async fn logs(api: &Api, call: Call, name: &str) -> Result<Response, Failure> {
    let Call { resource, namespace, params, .. } = call;
    let pod = api.objects().get(resource, namespace.as_deref().unwrap_or_default(), name)?;
    let (node, request) = request(&pod, &params)?;
    let stream = api.parts.fleet.logs(&node, request).await.map_err(|error| refused(&pod, &error))?;
    let stop = api.parts.stop.clone();
    let stream = stream.take_until(stop.cancelled_owned()).inspect(|piece| {
        if let Err(error) = piece {
            debug!(error = error as &dyn std::error::Error, "a log was cut");
        }
    });
    let mut response = Response::new(Body::from_stream(stream));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Ok(response)
}

/// What is asked of which node.
fn request(pod: &Object, params: &Params) -> Result<(NodeName, LogsRequest), ApiError> {
    let container = container(pod, params.get("container"))?;
    let previous = params.is_set("previous");
    if !previous && let Some(reason) = never_started(pod, &container) {
        let message = format!("container {container:?} in pod {:?} is waiting to start: {reason}", pod.name());
        return Err(ApiError::bad_request(message));
    }
    let node = pod.str_at(&["spec", "nodeName"]).unwrap_or_default();
    let node = node
        .parse::<NodeName>()
        .map_err(|_| ApiError::bad_request(format!("pod {} does not have a host assigned", pod.name())))?;
    let broken = |what: &str| ApiError::internal(format!("the {what} of pod {} is not valid", pod.name()));
    let since = match params.get("sinceTime") {
        None => None,
        Some(text) => {
            let seconds = time::parse(text)
                .ok_or_else(|| ApiError::bad_request(format!("invalid sinceTime {text:?}: must be RFC 3339")))?;
            Some(UnixMillis(u64::try_from(seconds).unwrap_or(0).saturating_mul(1000)))
        }
    };
    let request = LogsRequest {
        pod: pod.uid().parse::<PodUid>().map_err(|_| broken("uid"))?,
        container: container.parse::<ContainerName>().map_err(|_| broken("container's name"))?,
        previous,
        follow: params.is_set("follow"),
        timestamps: params.is_set("timestamps"),
        tail: params.number("tailLines")?,
        since_seconds: params.number("sinceSeconds")?,
        since,
        limit_bytes: params.number("limitBytes")?,
    };
    Ok((node, request))
}

/// The container that is named, or the only one there is.
fn container(pod: &Object, wanted: Option<&str>) -> Result<String, ApiError> {
    let names = |list: &str| -> Vec<String> {
        let items = pod.at(&["spec", list]).and_then(Value::as_array);
        items.into_iter().flatten().filter_map(|c| c.get("name")?.as_str().map(str::to_owned)).collect()
    };
    let (main, init) = (names("containers"), names("initContainers"));
    match (wanted, main.as_slice()) {
        (Some(wanted), _) if main.iter().chain(&init).any(|name| name == wanted) => Ok(wanted.to_owned()),
        (Some(wanted), _) => {
            Err(ApiError::bad_request(format!("container {wanted} is not valid for pod {}", pod.name())))
        }
        (None, [only]) => Ok(only.clone()),
        (None, many) => {
            let mut message = format!(
                "a container name must be specified for pod {}, choose one of: [{}]",
                pod.name(),
                many.join(" ")
            );
            if !init.is_empty() {
                message.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
            }
            Err(ApiError::bad_request(message))
        }
    }
}

/// Why a container has no log yet, if it has none.
fn never_started(pod: &Object, container: &str) -> Option<String> {
    let lists = [pod.at(&["status", "initContainerStatuses"]), pod.at(&["status", "containerStatuses"])];
    let mut all = lists.into_iter().flatten().filter_map(Value::as_array).flatten();
    let Some(status) = all.find(|status| status.get("name").and_then(Value::as_str) == Some(container)) else {
        // Nothing heard yet: where it is bound, the node knows more than we do.
        let bound = pod.str_at(&["spec", "nodeName"]).is_some_and(|node| !node.is_empty());
        return (!bound).then(|| "not scheduled yet".to_owned());
    };
    let waiting = status.pointer("/state/waiting")?;
    if status.pointer("/lastState/terminated").is_some() {
        return None;
    }
    Some(waiting.get("reason").and_then(Value::as_str).unwrap_or("ContainerCreating").to_owned())
}

fn refused(pod: &Object, error: &StreamError) -> ApiError {
    let message = format!("cannot read the log of pod {}: {error}", pod.name());
    match error {
        StreamError::Refused { .. } => ApiError::bad_request(message),
        StreamError::Busy => ApiError::new(429, "TooManyRequests", message),
        StreamError::Offline { .. } | StreamError::Silent { .. } | StreamError::Broken { .. } => {
            ApiError::new(503, "ServiceUnavailable", message)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(status: Value) -> Object {
        let spec =
            json!({"nodeName": "pi", "containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}]});
        let uid = "01234567-89ab-cdef-0123-456789abcdef";
        Object::from_value(json!({"metadata": {"name": "p", "uid": uid}, "spec": spec, "status": status})).unwrap()
    }

    fn params(query: &str) -> Params {
        Params::of(&format!("/x?{query}").parse().unwrap()).unwrap()
    }

    #[test]
    fn what_is_asked_of_the_node() {
        let query = "container=i&follow=true&tailLines=5&sinceTime=1970-01-01T00:00:07Z&timestamps=true";
        let (node, request) = request(&pod(json!({})), &params(query)).unwrap();
        assert_eq!((node.as_str(), request.container.as_str()), ("pi", "i"));
        assert_eq!((request.follow, request.previous, request.timestamps), (true, false, true));
        assert_eq!((request.tail, request.since, request.limit_bytes), (Some(5), Some(UnixMillis(7000)), None));
    }

    #[test]
    fn what_cannot_be_answered_is_told() {
        let check = |status: Value, query: &str, expected: &str| {
            let told = request(&pod(status), &params(query)).map(|_| "asked".to_owned());
            let told = told.unwrap_or_else(|error| error.message);
            assert!(told.contains(expected), "{told}");
        };
        let state = |state: Value, last: Value| json!({"containerStatuses": [{"name": "a", "state": state, "lastState": last}]});
        check(json!({}), "", "choose one of: [a b] or one of the init containers: [i]");
        check(json!({}), "container=c", "container c is not valid for pod p");
        check(json!({}), "container=a&tailLines=x", "tailLines");
        check(json!({}), "container=a&sinceTime=noon", "sinceTime");
        let waiting = json!({"waiting": {"reason": "ErrImagePull"}});
        check(state(waiting.clone(), json!({})), "container=a", "is waiting to start: ErrImagePull");
        check(state(waiting.clone(), json!({})), "container=a&previous=true", "asked");
        check(state(waiting, json!({"terminated": {"exitCode": 1}})), "container=a", "asked");
        check(state(json!({"running": {}}), json!({})), "container=a", "asked");
    }
}
