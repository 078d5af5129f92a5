//! docker-compose.yml, the Dockerfile and what they mount, without an engine: the compose file is read by a
//! real parser and held against the specification's schema, and every path, port, variable and dashboard in it
//! against the program and the other files.

use super::{printed, tallyd};
use crate::support::{Launch, client_node, repository, wait_until};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::{Command, Output};
use std::time::Duration;
use tallyd::config;

fn read_yaml(path: &std::path::Path, mode: &[&str]) -> Output {
    let mut node = client_node();
    node.arg(repository("tests/tools/compose.js")).arg(path).args(mode);
    node.output().expect("node starts")
}

/// A YAML file of the repository.
pub(super) fn yaml(path: &str) -> Value {
    serde_json::from_str(&printed(&read_yaml(&repository(path), &[]))).unwrap()
}

fn compose() -> Value {
    let output = read_yaml(&repository("docker-compose.yml"), &["--compose"]);
    serde_json::from_str(&printed(&output)).unwrap()
}

/// `${NAME:-default}` becomes its default, as where nobody has set anything.
fn with_defaults(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (variable, behind) = after.split_once('}').expect("a closing brace");
        let (_, default) = variable.split_once(":-").expect("every variable has a default");
        out.push_str(before);
        out.push_str(default);
        rest = behind;
    }
    out + rest
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(|text| with_defaults(text.as_str().unwrap())).collect()
}

fn environment(service: &Value) -> BTreeMap<String, String> {
    let entries = service["environment"].as_object().into_iter().flatten();
    entries.map(|(name, value)| (name.clone(), with_defaults(value.as_str().unwrap()))).collect()
}

/// Every port as (address on the host, port there, port inside, protocol).
fn ports(service: &Value) -> Vec<(String, u16, u16, String)> {
    texts(&service["ports"])
        .iter()
        .map(|text| {
            let (path, protocol) = text.split_once('/').expect("a protocol");
            let parts: Vec<&str> = path.rsplitn(3, ':').collect();
            let address = parts.get(2).map_or("0.0.0.0", |address| address);
            (address.to_owned(), parts[1].parse().unwrap(), parts[0].parse().unwrap(), protocol.to_owned())
        })
        .collect()
}

/// The Dockerfile's instructions with their arguments, continued lines joined.
fn dockerfile() -> Vec<(String, String)> {
    let text = fs::read_to_string(repository("Dockerfile")).unwrap().replace("\\\n", " ");
    text.lines()
        .filter(|line| !line.starts_with('#') && !line.trim().is_empty())
        .filter_map(|line| line.split_once(' '))
        .map(|(instruction, rest)| (instruction.to_owned(), rest.trim().to_owned()))
        .collect()
}

#[test]
fn the_checks_see_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("compose.yml");
    for (text, told) in [
        ("services:\n  a:\n    imagine: b\n", "must NOT have additional properties"),
        ("services:\n  a:\n    image: b\n  a:\n    image: c\n", "unique"),
        ("services:\n  a:\n    restart: 7\n", "must be string"),
    ] {
        fs::write(&file, text).unwrap();
        let output = read_yaml(&file, &["--compose"]);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && errors.contains(told), "{text}: {errors}");
    }
    assert_eq!(with_defaults("${A:-127.0.0.1}:80:${B:-}8/tcp"), "127.0.0.1:80:8/tcp");
}

#[test]
fn nothing_is_reached_from_outside_but_lines_and_what_is_pinned_runs() {
    let compose = compose();
    let services = compose["services"].as_object().unwrap();
    let mut volumes = BTreeSet::new();
    for (name, service) in services {
        for (address, on_host, _, protocol) in ports(service) {
            let open = address == "0.0.0.0";
            assert_eq!(open, (on_host, protocol.as_str()) == (8_125, "udp"), "{name} {address}:{on_host}");
            assert!(open || address == "127.0.0.1", "{name} {address}");
        }
        let image = service["image"].as_str().unwrap();
        let tag = image.rsplit_once(':').unwrap_or_else(|| panic!("{image} has no tag")).1;
        assert!(tag.trim_start_matches('v').matches('.').count() >= 2, "{image} is not pinned");
        assert!(!service["healthcheck"].is_null(), "{name} has no health check");
        for dependency in service["depends_on"].as_object().into_iter().flatten() {
            assert_eq!(dependency.1["condition"], "service_healthy");
            assert!(services[dependency.0]["healthcheck"]["test"].is_array(), "{}", dependency.0);
        }
        for mount in texts(&service["volumes"]) {
            let (source, inside) = mount.split_once(':').unwrap();
            if source.starts_with("./") {
                assert!(repository(source).exists(), "{name} mounts {source}, which is not there");
                assert!(inside.ends_with(":ro"), "{mount} can be written");
            } else {
                volumes.insert(source.to_owned());
            }
        }
    }
    let named: BTreeSet<String> = compose["volumes"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(volumes, named);
    for service in ["tallyd", "demo"] {
        assert_eq!(services[service]["read_only"], true);
        assert_eq!(services[service]["cap_drop"][0], "ALL");
    }
    let redis = texts(&services["redis"]["command"]).join(" ");
    for rule in ["--appendonly yes", "--appendfsync everysec", "--maxmemory-policy noeviction"] {
        assert!(redis.contains(rule), "{redis}");
    }
}

/// What the program is told is taken without a warning, and listens where the ports lead.
#[test]
fn the_container_of_tallyd_is_what_the_program_understands() {
    let compose = compose();
    let service = &compose["services"]["tallyd"];
    let mut variables = environment(service);
    let instructions = dockerfile();
    let all = |name: &str| -> Vec<&str> {
        instructions.iter().filter(|(i, _)| i == name).map(|(_, rest)| rest.as_str()).collect()
    };
    for line in all("ENV") {
        let (name, value) = line.split_once('=').unwrap();
        variables.entry(name.to_owned()).or_insert_with(|| value.to_owned());
    }
    let known: BTreeSet<String> = config::keys()
        .iter()
        .map(|(section, key)| format!("TALLYD_{section}_{key}").to_uppercase())
        .collect();
    for name in variables.keys() {
        assert!(known.contains(name), "{name} is no key");
    }
    let loaded = config::native("", variables.clone().into_iter()).unwrap();
    assert_eq!(loaded.warnings, Vec::<String>::new());
    let inside =
        [(loaded.config.ingest.udp[0].port(), "udp"), (loaded.config.http.listen.unwrap().port(), "tcp")];
    let published: Vec<_> =
        ports(service).into_iter().map(|(_, _, port, protocol)| (port, protocol)).collect();
    assert_eq!(published, inside.map(|(port, protocol)| (port, protocol.to_owned())));
    assert_eq!(all("EXPOSE"), ["8125/udp 8127/tcp"]);
    let graphite = loaded.config.graphite.addresses[0].split_once(':').unwrap().0.to_owned();
    assert!(!compose["services"][graphite].is_null());

    let program = all("ENTRYPOINT")[0].trim_matches(['[', ']', '"']).to_owned();
    assert!(all("COPY").iter().any(|copy| copy.ends_with(&program)), "{program}");
    for health in [
        service["healthcheck"]["test"].clone(),
        serde_json::from_str(all("HEALTHCHECK")[0].split_once("CMD ").unwrap().1).unwrap(),
    ] {
        let words = texts(&health);
        assert_eq!(words[words.len() - 2..], [program.clone(), "health".to_owned()]);
    }
    assert_eq!(service["image"], format!("tallyd:{}", env!("CARGO_PKG_VERSION")));
    assert!(all("USER")[0] != "root" && all("USER")[0] != "0");
    for copy in all("COPY").iter().filter(|copy| !copy.starts_with("--from")) {
        for source in copy.split(' ').rev().skip(1) {
            assert!(repository(source).exists(), "{source}");
        }
    }
    for from in all("FROM") {
        assert!(from.split(' ').next().unwrap().contains('.'), "{from} is not pinned");
    }
}

/// Data sources, scrape targets and folders lead to services that are there.
#[test]
fn what_is_provisioned_leads_to_what_runs() {
    let compose = compose();
    let services = compose["services"].as_object().unwrap();
    let reached = |url: &str| {
        let (host, port) = url.trim_start_matches("http://").split_once(':').unwrap();
        let inside: Vec<u16> = ports(&services[host]).into_iter().map(|(_, _, inside, _)| inside).collect();
        assert!(inside.contains(&port.parse().unwrap()), "{url}: {host} listens on {inside:?}");
    };
    let sources = yaml("deploy/grafana/provisioning/datasources/tallyd.yaml");
    for source in sources["datasources"].as_array().unwrap() {
        reached(source["url"].as_str().unwrap());
    }
    let prometheus = yaml("deploy/prometheus/prometheus.yml");
    for target in texts(&prometheus["scrape_configs"][0]["static_configs"][0]["targets"]) {
        reached(&target);
    }
    let provider = yaml("deploy/grafana/provisioning/dashboards/tallyd.yaml");
    let folder = provider["providers"][0]["options"]["path"].as_str().unwrap().to_owned();
    let mounts = texts(&services["grafana"]["volumes"]);
    assert!(mounts.contains(&format!("./dashboards/grafana:{folder}:ro")), "{mounts:?}");
    let home = &environment(&services["grafana"])["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"];
    let home = home.strip_prefix(&format!("{folder}/")).unwrap();
    assert!(repository("dashboards/grafana").join(home).exists(), "{home}");
    let schema = fs::read_to_string(repository("tests/setup")).unwrap();
    let version = services["grafana"]["image"].as_str().unwrap().rsplit_once(':').unwrap().1;
    assert!(schema.contains(&format!("@grafana/schema@{version}")), "dashboards are typed against {version}");
}

#[test]
fn the_rules_for_graphite_are_those_that_tallyd_prints() {
    for (only, file) in [("schemas", "storage-schemas.conf"), ("aggregation", "storage-aggregation.conf")] {
        let shipped = fs::read_to_string(repository("deploy/graphite").join(file)).unwrap();
        let rules = printed(&tallyd(&["graphite-rules", "--only", only]));
        assert!(shipped.starts_with(&rules), "{file} is not what `tallyd graphite-rules` prints");
    }
}

/// The demo's container: the shop alone, for a tallyd that runs elsewhere.
#[test]
fn the_emitter_sends_to_a_tallyd_elsewhere() {
    let compose = compose();
    let mut words = texts(&compose["services"]["demo"]["command"]);
    let running = Launch::native("[graphite]\naddress = []").start();
    let to = words.iter().position(|word| word == "tallyd:8125").unwrap();
    words[to] = format!("127.0.0.1:{}", running.ports.statsd);
    let mut command = Command::new(env!("CARGO_BIN_EXE_tallyd"));
    let output = command.args(words).args(["--seconds", "2"]).output().unwrap();
    assert!(printed(&output).contains("a made-up shop sends"));
    let counted = || running.console("counters").contains("page_views: ");
    assert!(wait_until(Duration::from_secs(10), counted), "{}", running.console("counters"));
}
