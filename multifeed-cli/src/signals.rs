//! Ctrl-C and its like: the first asks for an end in order, the second ends at once.

use std::io;

use tokio::sync::watch;

/// What asks the program to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Ctrl-C, SIGINT.
    Interrupt,
    /// SIGTERM.
    Terminate,
}

/// Tells when the program is asked to end.
#[derive(Clone, Debug)]
pub(crate) struct Signals(watch::Receiver<Option<Signal>>);

impl Signal {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "Ctrl-C",
            Self::Terminate => "a request to terminate",
        }
    }

    /// What a shell reports of a program that died of the signal.
    pub(crate) const fn exit_code(self) -> u8 {
        match self {
            Self::Interrupt => 130,
            Self::Terminate => 143,
        }
    }
}

impl Signals {
    /// Takes the signals over; must run in the runtime.
    pub(crate) fn listen() -> io::Result<Self> {
        let (sender, receiver) = watch::channel(None);
        let mut source = Source::new()?;
        tokio::spawn(async move {
            let first = source.next().await;
            sender.send_replace(Some(first));
            let second = source.next().await;
            // Whatever is stored is safe: the store survives the end of its process at any moment.
            std::process::exit(second.exit_code().into());
        });
        Ok(Self(receiver))
    }

    /// Waits until the program is asked to end; at once if it was before.
    pub(crate) async fn received(&self) -> Signal {
        let mut receiver = self.0.clone();
        let found = receiver.wait_for(Option::is_some).await.map(|signal| *signal);
        match found {
            Ok(Some(signal)) => signal,
            // The task that listens is gone: the runtime ends.
            Ok(None) | Err(_) => std::future::pending().await,
        }
    }
}

#[cfg(unix)]
struct Source {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Source {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            Some(()) = self.interrupt.recv() => Signal::Interrupt,
            Some(()) = self.terminate.recv() => Signal::Terminate,
            else => std::future::pending().await,
        }
    }
}

#[cfg(not(unix))]
struct Source;

#[cfg(not(unix))]
impl Source {
    #[allow(clippy::unnecessary_wraps, reason = "as on other systems")]
    fn new() -> io::Result<Self> {
        Ok(Self)
    }

    #[allow(clippy::needless_pass_by_ref_mut, reason = "as on other systems")]
    async fn next(&mut self) -> Signal {
        match tokio::signal::ctrl_c().await {
            Ok(()) => Signal::Interrupt,
            Err(_) => std::future::pending().await,
        }
    }
}
