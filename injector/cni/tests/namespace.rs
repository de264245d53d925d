//! Calls the plugin as a container runtime does, with a network namespace for the pod and an API server that knows it,
//! and checks where the pod's connections arrive.
//!
//! Without the test harness, because namespaces must be entered before the first thread starts. Needs root, or user
//! namespaces for ordinary users.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use nix::sched::{CloneFlags, unshare};
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};
use serde_json::{Value, json};

const PLUGIN: &str = env!("CARGO_BIN_EXE_mesh-cni");
/// Unused address.
const UNUSED: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(1, 1, 1, 1)), 20001);

fn main() {
    let mut flags = CloneFlags::CLONE_NEWNET;
    if !nix::unistd::geteuid().is_root() {
        flags |= CloneFlags::CLONE_NEWUSER;
    }
    unshare(flags).expect("a network namespace (root, or user namespaces for ordinary users)");
    wire(false);
    let node = Node::start();
    let pod = Pod::start();
    assert!(!pod.is_redirected(), "a new namespace has no rules");
    node.ignores_pods_without_a_sidecar(&pod);
    node.fails_while_the_cluster_does_not_know_the_pod(&pod);
    node.redirects_pods_with_a_sidecar_repeatedly(&pod);
    node.reports_a_missing_network_namespace();
    eprintln!("CNI plugin: 4 cases passed");
}

/// Sets up loopback and a default route, as in a pod.
fn wire(with_route: bool) {
    let wire = async {
        let (connection, handle, _) = rtnetlink::new_connection().expect("netlink");
        tokio::spawn(connection);
        let up = async |name: &str| {
            let link = LinkMessageBuilder::<LinkUnspec>::default().name(name.to_owned());
            handle.link().change(link.up().build()).execute().await.expect("up");
        };
        up("lo").await;
        if !with_route {
            return;
        }
        let veth = LinkVeth::new("eth0", "peer").build();
        handle.link().add(veth).execute().await.expect("a pair of interfaces");
        up("peer").await;
        up("eth0").await;
        let index = nix::net::if_::if_nametoindex("eth0").expect("eth0");
        let address = Ipv4Addr::new(10, 9, 0, 2).into();
        handle
            .address()
            .add(index, address, 24)
            .execute()
            .await
            .expect("address");
        let route = RouteMessageBuilder::<Ipv4Addr>::new().output_interface(index).build();
        handle.route().add(route).execute().await.expect("default route");
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("runtime").block_on(wire);
}

/// Network namespace of a thread.
struct Pod {
    netns: PathBuf,
    ask: mpsc::Sender<()>,
    answers: mpsc::Receiver<bool>,
}

impl Pod {
    fn start() -> Self {
        let (ask, requests) = mpsc::channel();
        let (answer, answers) = mpsc::channel();
        let (path, paths) = mpsc::channel();
        thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
            wire(true);
            let thread = nix::unistd::gettid();
            path.send(PathBuf::from(format!(
                "/proc/{}/task/{thread}/ns/net",
                std::process::id()
            )))
            .expect("received");
            let proxy = TcpListener::bind("127.0.0.1:4140").expect("the sidecar's port");
            proxy.set_nonblocking(true).expect("set");
            while requests.recv().is_ok() {
                let client = TcpStream::connect_timeout(&UNUSED, Duration::from_millis(200));
                let _ = answer.send(client.is_ok() && proxy.accept().is_ok());
            }
        });
        Self {
            netns: paths.recv().expect("a pod"),
            ask,
            answers,
        }
    }

    fn is_redirected(&self) -> bool {
        self.ask.send(()).expect("the pod lives");
        self.answers.recv().expect("an answer")
    }
}

/// Node: a kubeconfig and its API server.
struct Node {
    dir: tempfile::TempDir,
}

impl Node {
    fn start() -> Self {
        let server = TcpListener::bind("127.0.0.1:0").expect("a port");
        let dir = tempfile::tempdir().expect("a folder");
        let url = format!("http://{}", server.local_addr().expect("an address"));
        let kubeconfig = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "local", "cluster": {"server": url}}],
            "users": [{"name": "u", "user": {"token": "t"}}],
            "contexts": [{"name": "c", "context": {"cluster": "local", "user": "u"}}]});
        std::fs::write(dir.path().join("kubeconfig"), kubeconfig.to_string()).expect("written");
        thread::spawn(move || server.incoming().flatten().for_each(serve));
        Self { dir }
    }

    /// Calls ADD. Returns success and output.
    fn add(&self, netns: &str, pod: &str) -> (bool, Value) {
        let conf = json!({
            "cniVersion": "1.0.0", "name": "net", "type": "linkerd-cni",
            "kubernetes": {"kubeconfig": self.dir.path().join("kubeconfig")},
            "linkerd": {"proxy-uid": 2102, "inbound-ports-to-ignore": ["4190", "4191"]},
            "prevResult": {"cniVersion": "1.0.0", "ips": [{"address": "10.9.0.2/24"}]},
        });
        let mut child = Command::new(PLUGIN)
            .envs([("CNI_COMMAND", "ADD"), ("CNI_CONTAINERID", "c"), ("CNI_IFNAME", "eth0")])
            .env("CNI_NETNS", netns)
            .env(
                "CNI_ARGS",
                format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=a;K8S_POD_NAME={pod};K8S_POD_UID=u"),
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the plugin starts");
        let mut stdin = child.stdin.take().expect("piped");
        stdin.write_all(conf.to_string().as_bytes()).expect("read");
        drop(stdin);
        let output = child.wait_with_output().expect("the plugin ends");
        let printed = serde_json::from_slice(&output.stdout).expect("JSON");
        (output.status.success(), printed)
    }

    fn add_to(&self, pod: &Pod, name: &str) -> (bool, Value) {
        self.add(&pod.netns.display().to_string(), name)
    }

    fn ignores_pods_without_a_sidecar(&self, pod: &Pod) {
        let (done, result) = self.add_to(pod, "plain");
        assert!(done, "{result}");
        assert_eq!(
            result["ips"][0]["address"], "10.9.0.2/24",
            "the result of the previous plugin"
        );
        assert!(!pod.is_redirected());
    }

    fn fails_while_the_cluster_does_not_know_the_pod(&self, pod: &Pod) {
        for name in ["unknown", "replaced"] {
            let (done, error) = self.add_to(pod, name);
            assert!(!done && error["code"] == 11, "the kubelet retries: {error}");
        }
        assert!(!pod.is_redirected());
    }

    fn redirects_pods_with_a_sidecar_repeatedly(&self, pod: &Pod) {
        for _ in 0..2 {
            let (done, result) = self.add_to(pod, "meshed");
            assert!(done, "{result}");
            assert_eq!(result["ips"][0]["address"], "10.9.0.2/24");
            assert!(pod.is_redirected());
        }
    }

    fn reports_a_missing_network_namespace(&self) {
        let (done, error) = self.add("/var/run/netns/nowhere", "meshed");
        assert!(!done && error["code"] == 101, "{error}");
        let details = error["details"].as_str().expect("details");
        assert!(details.contains("/var/run/netns/nowhere"), "{details}");
    }
}

/// Answers requests by their paths.
fn serve(stream: TcpStream) {
    let mut reader = BufReader::new(stream.try_clone().expect("a handle"));
    let mut writer = stream;
    loop {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if line.trim().is_empty() {
                break;
            }
            lines.push(line);
        }
        let path = lines[0].split_whitespace().nth(1).unwrap_or_default();
        let sidecar = json!([{"name": "web"}, {"name": "linkerd-proxy"}]);
        let pod = |uid: &str, containers: Value| json!({"metadata": {"uid": uid}, "spec": {"containers": containers}});
        let object = match path {
            "/api/v1/namespaces/a/pods/meshed" => Some(pod("u", sidecar)),
            "/api/v1/namespaces/a/pods/replaced" => Some(pod("another", sidecar)),
            "/api/v1/namespaces/a/pods/plain" => Some(pod("u", json!([{"name": "web"}]))),
            "/api/v1/namespaces/a" => Some(json!({"metadata": {"name": "a"}})),
            _ => None,
        };
        let status = if object.is_some() { "200 OK" } else { "404 Not Found" };
        let body =
            object.unwrap_or_else(|| json!({"kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound"}));
        let body = body.to_string();
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        if writer.write_all((head + &body).as_bytes()).is_err() {
            return;
        }
    }
}
