//! `tallyd demo`: the whole thing at work, with made-up traffic through its real UDP port.
//!
//! A made-up shop: visitors look at pages, some sign up, some buy, and a deploy now and then makes the checkout
//! slower for a while. What is printed is what tallyd counted, not what was sent. Without a Graphite
//! a small receiver stands in for it and shows the lines.

mod history;

use super::args::{Configured, Demo};
use super::run::{self, Event};
use crate::calendar::Calendar;
use crate::clock::{self, Clock, WallMs};
use crate::config::{self, Config};
use crate::metric::{Kind, Tally};
use crate::run::{Addresses, Service, fill, start};
use crate::store::StoreUrl;
use anyhow::Context;
use chrono::{DateTime, Local};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs as _, UdpSocket};
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

/// Bursts of traffic a second.
const BURSTS: u32 = 20;
/// Seconds until the first deploy, from one to the next, and how long the checkout is slower after each.
const DEPLOY_AT: f64 = 60.0;
const DEPLOY_EVERY: f64 = 600.0;
const DEPLOY_SLOW: f64 = 45.0;
/// Ports tried upward from the usual one.
const PORTS_TRIED: u16 = 100;
/// The figures and pages of the shop.
const PAGE: &str = include_str!("page.toml");
/// What is looked at.
const PAGES: [&str; 4] = ["home", "shoes", "hats", "cart"];
/// Where the system says which zone it is in.
const LOCAL_ZONE: &str = "/etc/localtime";
/// Carts that are open around midnight, and how many more when the shop is at its busiest.
const CARTS: (f64, f64) = (8.0, 18.0);
/// So many carts from what is usual, nobody opens another one.
const CARTS_REACH: f64 = 12.0;
/// Lines of a bucket that are shown.
const LINES_SHOWN: usize = 12;

/// Runs until Ctrl-C, or for so many seconds.
pub fn demo(arguments: &Demo) -> anyhow::Result<ExitCode> {
    run::init_log(false);
    let events = run::events()?;
    if let Some(elsewhere) = &arguments.to {
        return send_only(elsewhere, arguments.seconds, &events);
    }
    let folder =
        tempfile::Builder::new().prefix("tallyd-demo-").tempdir().context("no temporary directory")?;
    let mut config = configuration(arguments, folder.path())?;
    let clock = Clock::system();
    let calendar = *config.store.ladder.calendar();
    remember(&config, &calendar, clock.now())?;
    // Not before the past is written, which takes a while: somebody else may want the same ports.
    let receiver = find_places(&mut config, arguments)?;
    let service = start(&config, &clock).context("the demo cannot start")?;
    let udp = service.addresses().udp.context("the demo has no UDP address")?;
    introduce(service.addresses(), arguments)?;
    if let Some(receiver) = receiver {
        std::thread::Builder::new().name("stand-in".to_owned()).spawn(move || stand_in(&receiver))?;
    }
    let mut shop = Shop::open(&udp.to_string(), calendar)?;
    let started = clock.now();
    let pause = Duration::from_secs(1) / BURSTS;
    let mut next_report = started + 1_000;
    loop {
        match events.inbox.recv_timeout(pause) {
            Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => break,
            Ok(Event::Reload) | Err(RecvTimeoutError::Timeout) => {}
        }
        shop.burst()?;
        let now = clock.now();
        if now >= next_report {
            next_report += 1_000;
            report(&service, started, now)?;
        }
        if arguments.seconds.is_some_and(|seconds| now - started >= 1_000 * seconds as i64) {
            break;
        }
    }
    say("\nstopping: the open bucket is stated as far as it has come\n")?;
    Ok(run::exit_code(&service.stop()))
}

/// The shop alone, for a tallyd elsewhere.
fn send_only(elsewhere: &str, seconds: Option<u64>, events: &run::Events) -> anyhow::Result<ExitCode> {
    let mut shop = Shop::open(elsewhere, Calendar::default())?;
    say(&format!("a made-up shop sends statsd lines to {elsewhere}. Ctrl-C ends it.\n"))?;
    let pause = Duration::from_secs(1) / BURSTS;
    loop {
        match events.inbox.recv_timeout(pause) {
            Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => return Ok(ExitCode::SUCCESS),
            Ok(Event::Reload) | Err(RecvTimeoutError::Timeout) => {}
        }
        // While nobody listens there, the system says so; the shop goes on.
        if let Err(error) = shop.burst() {
            tracing::debug!("{error:#}");
        }
        if seconds.is_some_and(|seconds| clock::elapsed(shop.opened).as_secs() >= seconds) {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

/// Puts the weeks before into the store, if that is one that stays.
fn remember(config: &Config, calendar: &Calendar, now: WallMs) -> anyhow::Result<()> {
    if !matches!(config.store.url, StoreUrl::File(_)) {
        return Ok(());
    }
    let history = history::History {
        calendar,
        rates: Rates::SHOP,
        bounds: config.aggregate.bounds,
        salt: &config.aggregate.set_salt,
        bucket_ms: config.flush.bucket.ms(),
        random: fastrand::Rng::new(),
    };
    fill(config, history.until(now)).context("the shop's past cannot be written")
}

/// The zone of this machine, if it says so in the usual way.
fn local_zone() -> Option<String> {
    let link = std::fs::read_link(LOCAL_ZONE).ok()?;
    let name = link.to_str()?.split_once("zoneinfo/")?.1.to_owned();
    Calendar::new(&name, chrono::NaiveTime::MIN).map(|_| name)
}

/// The defaults, with the shop's pages.
fn configuration(arguments: &Demo, folder: &Path) -> anyhow::Result<Config> {
    // What the shop sells is gone with it, unless somebody says where to keep it.
    let store = ("TALLYD_STORE_URL".to_owned(), format!("file:{}", folder.display()));
    let typed =
        arguments.graphite.iter().map(|address| ("TALLYD_GRAPHITE_ADDRESS".to_owned(), address.clone()));
    let configured = Configured::default();
    let zone = local_zone().map(|zone| ("TALLYD_COMPANY_TIMEZONE".to_owned(), zone));
    let env = std::iter::once(store).chain(zone).chain(configured.environment()).chain(typed);
    let loaded = config::native(PAGE, env);
    Ok(loaded.context("the demo cannot start with this environment or --graphite")?.config)
}

/// On loopback, on the usual ports or the next free ones; and who stands in for Graphite, where there is none.
fn find_places(config: &mut Config, arguments: &Demo) -> anyhow::Result<Option<TcpListener>> {
    config.ingest.udp = vec![free_udp(8125)?];
    config.figures.udp_port = config.ingest.udp.first().map_or(0, SocketAddr::port);
    config.ingest.tcp = Vec::new();
    config.ingest.unix = Vec::new();
    config.console.listen = Some(free_tcp(8126, 0)?);
    config.http.listen = Some(free_tcp(8127, config.console.listen.map_or(0, |taken| taken.port()))?);
    let mut stand_in = None;
    if arguments.graphite.is_none() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).context("no port for the stand-in of Graphite")?;
        config.graphite.addresses = vec![listener.local_addr()?.to_string()];
        stand_in = Some(listener);
    }
    Ok(stand_in)
}

fn candidates(usual: u16) -> impl Iterator<Item = SocketAddr> {
    (usual..usual + PORTS_TRIED).map(|port| SocketAddr::from(([127, 0, 0, 1], port)))
}

fn free_udp(usual: u16) -> anyhow::Result<SocketAddr> {
    candidates(usual)
        .find(|address| UdpSocket::bind(address).is_ok())
        .with_context(|| format!("no free UDP port from {usual} on"))
}

fn free_tcp(usual: u16, taken: u16) -> anyhow::Result<SocketAddr> {
    candidates(usual)
        .find(|address| address.port() != taken && TcpListener::bind(address).is_ok())
        .with_context(|| format!("no free TCP port from {usual} on"))
}

fn introduce(addresses: &Addresses, arguments: &Demo) -> anyhow::Result<()> {
    let show = |address: Option<SocketAddr>| address.map_or("off".to_owned(), |address| address.to_string());
    let (udp, http, console) = (show(addresses.udp), show(addresses.http), show(addresses.console));
    let port = addresses.udp.map_or(0, |udp| udp.port());
    let graphite = match &arguments.graphite {
        Some(address) => format!("sent to {address} every 10 s"),
        None => "none given (--graphite HOST:PORT), so the lines it would send are shown here every 10 s"
            .to_owned(),
    };
    say(&format!(
        "tallyd demo: a made-up shop sends statsd lines, tallyd counts them. Ctrl-C ends it.\n\n\
         \x20 the page   http://{http}/\n\
         \x20 lines in   udp {udp}      try: echo 'signups:1|c' | nc -u -w1 127.0.0.1 {port}\n\
         \x20 the books  http://{http}/api/v1/status\n\
         \x20 metrics    http://{http}/metrics\n\
         \x20 console    {console}      try: echo counters | nc -w1 127.0.0.1 {}\n\
         \x20 Graphite   {graphite}\n\n",
        addresses.console.map_or(0, |console| console.port())
    ))
}

fn say(text: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).context("cannot write to stdout")
}

/// Stands in for Graphite. One of the connections is idle for as long as we live, so that each has a thread of its own.
fn stand_in(receiver: &TcpListener) {
    for stream in receiver.incoming().filter_map(Result::ok) {
        let show = move || show_lines(stream);
        if let Err(error) = std::thread::Builder::new().name("stand-in".to_owned()).spawn(show) {
            tracing::warn!(%error, "the stand-in of Graphite cannot read");
        }
    }
}

/// Reads a connection to its end and shows what the shop would see in Graphite.
fn show_lines(stream: TcpStream) {
    let lines: Vec<String> = BufReader::new(stream).lines().map_while(Result::ok).collect();
    let business = |line: &&String| !line.starts_with("stats.statsd.") && !line.contains(".statsd.");
    let wanted = |line: &&String| [".count ", ".upper_90 ", "gauges."].iter().any(|part| line.contains(part));
    let shown: Vec<&String> = lines.iter().filter(business).filter(wanted).take(LINES_SHOWN).collect();
    if shown.is_empty() {
        return;
    }
    let more = lines.len() - shown.len();
    let text = shown.iter().fold(String::new(), |text, line| text + "    " + line + "\n");
    // Without a stdout there is nobody to show it to; the demo itself will notice.
    say(&format!("  to Graphite:\n{text}    … and {more} more\n")).ok();
}

/// One line: what tallyd has counted so far.
fn report(service: &Service, started: WallMs, now: WallMs) -> anyhow::Result<()> {
    let total = |kind, name| total(service, kind, name, started, now);
    let count = |name| match total(Kind::Counter, name) {
        Some(Tally::Counter(sum)) => sum.to_f64(),
        _ => 0.0,
    };
    let visitors = match total(Kind::Set, "visitors") {
        Some(Tally::Set(set)) => set.count(),
        _ => 0,
    };
    let checkout = match total(Kind::Timer, "checkout.time") {
        Some(Tally::Timer(digest)) => digest
            .distribution()
            .and_then(|all| all.part(90.0))
            .map_or("–".to_owned(), |part| format!("{:.0} ms", part.boundary)),
        _ => "–".to_owned(),
    };
    let time =
        DateTime::from_timestamp_millis(now).unwrap_or_default().with_timezone(&Local).format("%H:%M:%S");
    say(&format!(
        "{time}  views {:<6} visitors {visitors:<5} signups {:<4} orders {:<4} revenue {:>9.2}  checkout p90 {checkout}\n",
        count("page_views"),
        count("signups"),
        count("orders"),
        count("revenue"),
    ))
}

fn total(service: &Service, kind: Kind, name: &str, from: WallMs, to: WallMs) -> Option<Tally> {
    let bounds = service.store().bounds();
    let series = service.store().series(&|series| series.kind() == kind && series.split().0 == name).ok()?;
    let readings = service.store().read(&series, 0, from, to + 1).ok()?;
    readings.into_iter().flatten().map(|reading| reading.tally).reduce(|mut all, part| {
        all.merge(part, &bounds);
        all
    })
}

/// How many of what come in a second when the shop is at its busiest.
#[derive(Clone, Copy, Debug)]
struct Rates {
    views: f64,
    signups: f64,
    orders: f64,
}

impl Rates {
    const SHOP: Self = Self { views: 40.0, signups: 0.4, orders: 0.2 };
}

/// The made-up shop.
struct Shop {
    socket: UdpSocket,
    random: fastrand::Rng,
    calendar: Calendar,
    clock: Clock,
    opened: std::time::Instant,
    open_carts: i64,
    deployed_at: Option<f64>,
}

impl Shop {
    fn open(tallyd: &str, calendar: Calendar) -> anyhow::Result<Self> {
        let place = tallyd.to_socket_addrs().ok().and_then(|mut places| places.next());
        let place = place.with_context(|| format!("{tallyd} is no HOST:PORT that can be found"))?;
        let any = if place.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
        let socket = UdpSocket::bind(any).context("no socket for the shop")?;
        socket.connect(place).context("the shop cannot reach tallyd")?;
        let (random, clock) = (fastrand::Rng::new(), Clock::system());
        let opened = clock::monotonic_now();
        let open_carts = usual_carts(history::curve(&calendar, clock.now())).round() as i64;
        Ok(Self { socket, random, calendar, clock, opened, open_carts, deployed_at: None })
    }

    /// A twentieth of a second of business, in one datagram for each thing that happens.
    fn burst(&mut self) -> anyhow::Result<()> {
        let age = clock::elapsed(self.opened).as_secs_f64();
        // Business comes in waves, on top of the day's own.
        let wave = 1.0 + 0.3 * (age / 17.0).sin();
        let curve = history::curve(&self.calendar, self.clock.now());
        let busy = wave * curve / f64::from(BURSTS);
        for _ in 0..arrivals(&mut self.random, Rates::SHOP.views * busy) {
            self.view()?;
        }
        for _ in 0..arrivals(&mut self.random, Rates::SHOP.signups * busy) {
            let plan = plan(&mut self.random);
            self.send(&format!("signups:1|c\nplans.{plan}:1|c"))?;
        }
        for _ in 0..arrivals(&mut self.random, Rates::SHOP.orders * busy) {
            self.order(age)?;
        }
        if age >= self.deployed_at.map_or(DEPLOY_AT, |last| last + DEPLOY_EVERY) {
            self.deployed_at = Some(age);
            self.send("deploys.shop:1|c")?;
        }
        // About once a second somebody opens a cart or leaves one.
        if self.random.u32(..BURSTS) == 0 {
            let missing = usual_carts(curve) - self.open_carts as f64;
            let opens = self.random.f64() < 0.5 + missing / (2.0 * CARTS_REACH);
            self.open_carts = (self.open_carts + if opens { 1 } else { -1 }).max(0);
        }
        self.send(&format!("carts.open:{}|g", self.open_carts))
    }

    fn view(&mut self) -> anyhow::Result<()> {
        let visitor = visitor(&mut self.random);
        let page = PAGES.get(self.random.usize(..PAGES.len())).copied().unwrap_or("home");
        let render = log_normal(&mut self.random, 38.0, 0.5);
        self.send(&format!("page_views:1|c\nvisitors:{visitor}|s\npage.time:{render:.1}|ms|#page:{page}"))
    }

    fn order(&mut self, age: f64) -> anyhow::Result<()> {
        let price = (log_normal(&mut self.random, 49.0, 0.6) * 100.0).round() / 100.0;
        let money = if self.random.f64() < 0.15 { "revenue.usd" } else { "revenue" };
        let slow = if self.deployed_at.is_some_and(|last| age < last + DEPLOY_SLOW) { 2.2 } else { 1.0 };
        let time = log_normal(&mut self.random, 240.0 * slow, 0.4);
        if self.random.f64() < 1.0 / 60.0 {
            self.send("refunds:1|c")?;
        }
        self.send(&format!("orders:1|c\n{money}:{price:.2}|c\ncheckout.time:{time:.0}|ms"))
    }

    fn send(&self, lines: &str) -> anyhow::Result<()> {
        self.socket.send(lines.as_bytes()).map(drop).context("the shop cannot send to tallyd")
    }
}

/// Few visitors look at much: the product of two dice favours low numbers.
fn visitor(random: &mut fastrand::Rng) -> String {
    format!("user-{}", (random.f64() * random.f64() * 9_000.0) as u32)
}

/// How many carts are open where the shop is as busy as this.
fn usual_carts(curve: f64) -> f64 {
    CARTS.1.mul_add(curve, CARTS.0)
}

/// What is signed up for.
fn plan(random: &mut fastrand::Rng) -> &'static str {
    match random.u32(..20) {
        0 => "team",
        1..=5 => "pro",
        _ => "free",
    }
}

/// How many of something there are where `mean` are usual.
fn arrivals(random: &mut fastrand::Rng, mean: f64) -> u64 {
    if mean > 50.0 {
        // So many are a bell.
        return (mean + mean.sqrt() * bell(random)).round().max(0.0) as u64;
    }
    let (limit, mut product, mut count) = ((-mean).exp(), random.f64(), 0);
    while product > limit {
        product *= random.f64();
        count += 1;
    }
    count
}

fn bell(random: &mut fastrand::Rng) -> f64 {
    let angle = random.f64() * std::f64::consts::TAU;
    let length = (-2.0 * (1.0 - random.f64()).ln()).sqrt();
    length * angle.cos()
}

fn log_normal(random: &mut fastrand::Rng, median: f64, spread: f64) -> f64 {
    median * (spread * bell(random)).exp()
}
