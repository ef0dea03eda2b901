//! Many pods in little: address space is what a 32-bit process or an old kernel runs out of first.

use anyhow::Result;
use harness::{AgentOptions, Cluster, HubOptions, eventually};
use wherry_tests::{LATER, SOON, phase};

#[test]
fn a_hundred_pods_below_three_gigabytes_of_address_space() -> Result<()> {
    let cluster = Cluster::start(HubOptions::default())?;
    let options = AgentOptions { args: vec!["--pods".to_owned(), "110".to_owned()], address_space_kib: Some(3 << 20) };
    let mut agent = cluster.agent("small", options)?;
    cluster.wait_node("small", SOON)?;
    cluster.push_guests(&["hello"])?;
    let kubectl = cluster.kubectl()?;
    kubectl.apply(
        "
apiVersion: apps/v1
kind: Deployment
metadata: {name: many}
spec:
  replicas: 100
  selector: {matchLabels: {app: many}}
  template:
    metadata: {labels: {app: many}}
    spec: {containers: [{name: main, image: hello}]}
",
    )?;
    eventually("a hundred running pods", LATER, || {
        let pods = kubectl.pods("app=many")?;
        Ok(pods.iter().filter(|pod| phase(pod) == "Running").count() == 100)
    })?;
    agent.process.check_alive()
}
