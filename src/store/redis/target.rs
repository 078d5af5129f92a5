//! Where a Redis is: one server, a cluster, or the master that sentinels name.
//!
//! ```text
//!   redis://    [USER:PASSWORD@]HOST[:6379][/DATABASE]            one server
//!   redis+cluster://  [USER:PASSWORD@]HOST:PORT,HOST:PORT,…       any nodes of a cluster
//!   redis+sentinel:// [USER:PASSWORD@]HOST:26379,…/NAME[/DATABASE] sentinels, and the master's name among them
//!   unix://PATH                                                   one server, by its socket
//!   rediss…  the same over TLS; ?ca=FILE believes that certificate authority and no other
//! ```
//!
//! User and password are those of the servers; sentinels are asked without. A master that sentinels name has all
//! slots, so that from there on it is a cluster of one.

use super::cluster::{self, Slots};
use super::link::{Failure, array, int, text};
use crate::limits;
use redis::{
    Client, Connection, ConnectionAddr, ConnectionInfo, ErrorKind, RedisError, RedisResult, TlsCertificates,
    Value,
};

/// Where a sentinel listens.
const SENTINEL_PORT: u16 = 26_379;

/// Where a Redis is.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// The server, or those that know where the masters are.
    nodes: Vec<ConnectionInfo>,
    /// What connections to masters have in common: user, database, TLS.
    master: ConnectionInfo,
    form: Form,
    /// Slots of the partitions.
    slots: Vec<u16>,
}

#[derive(Clone, Debug)]
enum Form {
    One,
    Cluster,
    /// The master's name.
    Sentinel(String),
}

impl Target {
    /// The target that `store.url` names, whose partitions have these hash tags.
    pub(super) fn new(url: &str, tags: &[String]) -> Result<Self, Failure> {
        let slots = tags.iter().map(|tag| cluster::slot_of(tag.as_bytes())).collect();
        let (url, ca) = url.split_once("?ca=").map_or((url, None), |(url, file)| (url, Some(file)));
        let (scheme, rest) = url.split_once("://").ok_or_else(|| Failure::away("this is no address"))?;
        let (base, form) = scheme.split_once('+').unwrap_or((scheme, ""));
        if ca.is_some() && base != "rediss" {
            return Err(Failure::away("?ca= is for rediss://"));
        }
        let info = |url: String| info(&url, ca);
        if !matches!(form, "cluster" | "sentinel") {
            let one = info(url.to_owned())?;
            return Ok(Self { nodes: vec![one.clone()], master: one, form: Form::One, slots });
        }
        let (user, rest) = rest.rsplit_once('@').map_or(("", rest), |(user, rest)| (user, rest));
        let at = if user.is_empty() { "" } else { "@" };
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        let hosts = hosts.split(',').map(str::trim);
        if form == "cluster" {
            let nodes: Vec<_> =
                hosts.map(|host| info(format!("{base}://{user}{at}{host}"))).collect::<Result<_, _>>()?;
            let master = nodes.first().cloned().ok_or_else(|| Failure::away("no node is named"))?;
            return Ok(Self { nodes, master, form: Form::Cluster, slots });
        }
        let (name, database) = path.split_once('/').unwrap_or((path, "0"));
        if name.is_empty() {
            return Err(Failure::away("the master's name is missing: redis+sentinel://HOST:26379/NAME"));
        }
        let with_port = |host: &str| {
            let whole = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
            if whole { host.to_owned() } else { format!("{host}:{SENTINEL_PORT}") }
        };
        let nodes =
            hosts.map(|host| info(format!("{base}://{}", with_port(host)))).collect::<Result<_, _>>()?;
        let master = info(format!("{base}://{user}{at}localhost:6379/{database}"))?;
        Ok(Self { nodes, master, form: Form::Sentinel(name.to_owned()), slots })
    }

    /// Whether it is many servers, each of which has some of the partitions.
    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.form, Form::Cluster)
    }

    /// Whether somebody has to be asked where the masters are.
    pub(super) fn is_asked(&self) -> bool {
        !matches!(self.form, Form::One)
    }

    /// The slot of a partition's keys.
    pub(super) fn slot(&self, partition: usize) -> Option<u16> {
        self.slots.get(partition).copied()
    }

    /// Where it is, without its password.
    pub(super) fn shown(&self) -> String {
        let nodes: Vec<String> = self.nodes.iter().map(|node| node.addr().to_string()).collect();
        match &self.form {
            Form::Sentinel(name) => format!("{name} of {}", nodes.join(",")),
            Form::One | Form::Cluster => nodes.join(","),
        }
    }

    /// Who is asked where the masters are, the likeliest first.
    pub(super) fn informants<'a>(&self, known: impl Iterator<Item = &'a String>) -> Vec<ConnectionInfo> {
        // In a cluster those that are spoken to know it too; a sentinel's masters do not.
        let known = known.filter_map(|address| self.at(address)).filter(|_| self.is_cluster());
        known.chain(self.nodes.iter().cloned()).collect()
    }

    /// Asks one of them.
    pub(super) fn slots(&self, connection: &mut Connection, asked: &ConnectionInfo) -> RedisResult<Slots> {
        let Form::Sentinel(name) = &self.form else {
            return cluster::slots(connection, asked);
        };
        let answer: Value =
            redis::cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(name).query(connection)?;
        let [host, port] = array(&answer) else {
            return Err(RedisError::from((
                ErrorKind::Client,
                "the sentinels know no master of that name",
                name.clone(),
            )));
        };
        let port = int(port).and_then(|port| u16::try_from(port).ok()).unwrap_or_default();
        Ok(Slots::all_at(format!("{}:{port}", text(host).unwrap_or_default())))
    }

    /// How to connect to a server: the only one, or one at an address that was given.
    pub(super) fn at(&self, address: &str) -> Option<ConnectionInfo> {
        if !self.is_asked() {
            return Some(self.master.clone());
        }
        let (host, port) = address.rsplit_once(':')?;
        let (host, port) = (host.trim_matches(['[', ']']).to_owned(), port.parse().ok()?);
        let address = match self.master.addr() {
            ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
                ConnectionAddr::TcpTls { host, port, insecure: *insecure, tls_params: tls_params.clone() }
            }
            _ => ConnectionAddr::Tcp(host, port),
        };
        Some(self.master.clone().set_addr(address))
    }
}

/// How to connect to the server of one address.
fn info(url: &str, ca: Option<&str>) -> Result<ConnectionInfo, Failure> {
    let failed = |error: RedisError| Failure::away(error.to_string());
    let client = match ca {
        None => Client::open(url).map_err(failed)?,
        Some(file) => {
            let cannot = |error: std::io::Error| Failure::away(format!("cannot read {file}: {error}"));
            let size = std::fs::metadata(file).map_err(cannot)?.len();
            if size > limits::CERTIFICATES_BYTES_MAX {
                return Err(Failure::away(format!("{file} is too large for certificates")));
            }
            let root_cert = Some(std::fs::read(file).map_err(cannot)?);
            Client::build_with_tls(url, TlsCertificates { client_tls: None, root_cert }).map_err(failed)?
        }
    };
    Ok(client.get_connection_info().clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> Target {
        Target::new(url, &["0".to_owned()]).unwrap()
    }

    #[test]
    fn addresses_of_every_form_are_read() {
        assert_eq!(target("redis://:secret@a:1/3").shown(), "a:1");
        assert_eq!(target("rediss://a").shown(), "a:6379");
        assert_eq!(target("redis+cluster://u:p@a:1,b:2").shown(), "a:1,b:2");
        assert_eq!(target("redis+sentinel://u:p@a,b:2/main/4").shown(), "main of a:26379,b:2");
        for bad in
            ["redis+sentinel://a:1", "redis+sentinel://a:1/", "redis://a?ca=/x", "a:1", "redis+other://a:1"]
        {
            assert!(Target::new(bad, &[]).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_master_that_is_named_has_user_database_and_tls_of_the_address() {
        let plain = target("redis+sentinel://u:p@a,b:2/main/4").at("10.0.0.9:6380").unwrap();
        assert_eq!(plain.addr().to_string(), "10.0.0.9:6380");
        assert_eq!((plain.redis_settings().db(), plain.redis_settings().password()), (4, Some("p")));
        let secure = target("rediss+cluster://a:1").at("[::1]:7").unwrap();
        assert!(matches!(secure.addr(), ConnectionAddr::TcpTls { host, port: 7, .. } if host == "::1"));
    }

    #[test]
    fn sentinels_are_asked_without_a_password() {
        let nodes = target("redis+sentinel://u:p@a/main").informants([].iter());
        assert!(nodes.iter().all(|node| node.redis_settings().password().is_none()));
    }
}
