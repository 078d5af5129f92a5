//! The ingest threads: one for each datagram socket, one for all streams.
//!
//! In come bound sockets; out go collectors, one for each thread, and what stops the threads.

use super::spawn;
use crate::aggregate::request::Lines;
use crate::aggregate::{self, Collector, Registry, epoch::Epoch};
use crate::clock::Clock;
use crate::config::Config;
use crate::ingest::Bound;
use crate::ingest::rate::SenderRate;
use crate::ingest::receive::Receiver;
use crate::ingest::signed::{KeyFileError, Signed};
use crate::ingest::stream::StreamThread;
use crate::ingest::udp::DatagramThread;
use crate::sys::Waker;
use crate::tls::Tls;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;

/// The ingest threads and what they share.
pub(super) struct IngestThreads<'a> {
    pub(super) config: &'a Config,
    pub(super) clock: &'a Clock,
    tls: Option<Arc<Tls>>,
    signed: Arc<Signed>,
    options: Arc<aggregate::Options>,
    pub(super) registry: Arc<Registry>,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) wakers: Vec<Arc<Waker>>,
    pub(super) threads: Vec<JoinHandle<()>>,
    rate: Option<Arc<SenderRate>>,
}

impl<'a> IngestThreads<'a> {
    pub(super) fn new(
        config: &'a Config,
        clock: &'a Clock,
        tls: Option<Arc<Tls>>,
    ) -> Result<Self, KeyFileError> {
        Ok(Self {
            tls,
            signed: Arc::new(Signed::load(&config.ingest, clock.clone())?),
            config,
            clock,
            options: Arc::new(config.aggregate.clone()),
            registry: Arc::new(Registry::of(&config.aggregate)),
            stop: Arc::default(),
            wakers: Vec::new(),
            threads: Vec::new(),
            rate: Some(config.ingest.sender_rate)
                .filter(|rate| *rate > 0)
                .map(|rate| Arc::new(SenderRate::new(rate))),
        })
    }

    /// What counts the lines of requests as the threads count theirs.
    pub(super) fn lines(&self) -> Lines {
        let (options, registry) = (Arc::clone(&self.options), Arc::clone(&self.registry));
        Lines::new(options, registry, self.config.ingest.grammar)
    }

    pub(super) fn start(&mut self, bound: &mut Bound, epoch: &Arc<Epoch>) -> io::Result<Vec<Collector>> {
        let allow: Arc<[ipnet::IpNet]> = self.config.ingest.allow.as_slice().into();
        let mut collectors = Vec::new();
        for (number, socket) in std::mem::take(&mut bound.datagrams).into_iter().enumerate() {
            let (receiver, waker) = self.receiver(epoch, &mut collectors)?;
            let name = socket.name.clone();
            let thread = DatagramThread {
                socket,
                receiver,
                signed: Arc::clone(&self.signed),
                allow: Arc::clone(&allow),
                waker,
                stop: Arc::clone(&self.stop),
                datagram_bytes_max: self.config.ingest.datagram_bytes_max,
            };
            let work = move || die_on_error(&name, thread.run().map_err(io::Error::from));
            self.threads.push(spawn(format!("ingest-{number}"), work)?);
        }
        if !(bound.tcp.is_empty() && bound.tls.is_empty() && bound.unix_streams.is_empty()) {
            let (receiver, waker) = self.receiver(epoch, &mut collectors)?;
            let thread = StreamThread {
                tcp: std::mem::take(&mut bound.tcp),
                tls: (std::mem::take(&mut bound.tls), self.tls.clone()),
                unix: std::mem::take(&mut bound.unix_streams),
                receiver,
                allow,
                sender_connections: self.config.ingest.sender_connections,
                waker,
                stop: Arc::clone(&self.stop),
            };
            self.threads.push(spawn("streams".to_owned(), move || die_on_error("streams", thread.run()))?);
        }
        Ok(collectors)
    }

    fn receiver(
        &mut self,
        epoch: &Arc<Epoch>,
        collectors: &mut Vec<Collector>,
    ) -> io::Result<(Receiver, Arc<Waker>)> {
        let waker = Arc::new(Waker::new()?);
        self.wakers.push(Arc::clone(&waker));
        let (options, registry) = (Arc::clone(&self.options), Arc::clone(&self.registry));
        let (recorder, collector) =
            aggregate::epoch::pair(options, registry, Arc::clone(epoch), Arc::clone(&waker));
        collectors.push(collector);
        let receiver = Receiver::new(recorder, self.config.ingest.grammar, self.config.ingest.dump_lines);
        Ok((receiver.with_rate(self.rate.clone()), waker))
    }
}

/// A thread that cannot go on ends the process: a collector that silently stopped listening is worse.
fn die_on_error(name: &str, result: io::Result<()>) {
    if let Err(error) = result {
        tracing::error!(%error, "{name} failed; stopping, since lines would go unheard");
        std::process::exit(1);
    }
}
