//! `tallyd health`: asks a running tallyd over HTTP whether it is ready, for containers' health checks.

use super::args::Configured;
use super::run::load;
use anyhow::{Context, bail};
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(3);

/// Exit code 0 if the tallyd that this configuration describes takes lines in.
pub fn health(arguments: &Configured) -> anyhow::Result<ExitCode> {
    let Some(listen) = load(arguments)?.config.http.listen else {
        bail!("HTTP is off (http.listen), so there is nobody to ask");
    };
    let address = reachable(listen);
    let answer = ask(address).with_context(|| format!("no answer from http://{address}/health/ready"))?;
    let status = answer.lines().next().unwrap_or("");
    if status.split(' ').nth(1) == Some("200") {
        return Ok(ExitCode::SUCCESS);
    }
    bail!("http://{address}/health/ready says: {status}");
}

/// All addresses are reached by loopback.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

fn ask(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET /health/ready HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(4_096).read_to_string(&mut answer)?;
    Ok(answer)
}
