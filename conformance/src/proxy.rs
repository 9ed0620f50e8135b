//! A TCP proxy that cuts connections.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// Forwards connections on a port of its own to another port of this machine; cuts the first ones
/// after so many bytes.
#[derive(Debug)]
pub struct CuttingProxy {
    port: u16,
    transfers: Arc<Mutex<Vec<Transfer>>>,
}

/// The bytes of one connection.
#[derive(Clone, Debug, Default)]
pub struct Transfer {
    /// From the side that connected to the side that listens.
    pub to_server: Arc<AtomicU64>,
    /// From the side that listens to the side that connected.
    pub to_client: Arc<AtomicU64>,
}

impl CuttingProxy {
    /// `cuts`: for the first connections, how many bytes towards the client go through before both
    /// ends are closed; those after them are left alone.
    pub fn start(target: u16, cuts: &[u64]) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let transfers = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&transfers);
        let cuts = cuts.to_vec();
        // Lives as long as the test process; each accepted connection ends with its peers.
        thread::spawn(move || {
            let mut cuts = cuts.into_iter();
            for client in listener.incoming().map_while(Result::ok) {
                let transfer = Transfer::default();
                shared.lock().unwrap().push(transfer.clone());
                let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)) else {
                    continue;
                };
                let limit = cuts.next().unwrap_or(u64::MAX);
                forward(&client, &server, u64::MAX, transfer.to_server);
                forward(&server, &client, limit, transfer.to_client);
            }
        });
        Self { port, transfers }
    }

    /// The port to connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The bytes (to the server, to the client) of each connection so far, in order.
    pub fn transfers(&self) -> Vec<(u64, u64)> {
        let read = |number: &AtomicU64| number.load(Ordering::SeqCst);
        let transfers = self.transfers.lock().unwrap();
        transfers.iter().map(|t| (read(&t.to_server), read(&t.to_client))).collect()
    }
}

fn forward(from: &TcpStream, to: &TcpStream, limit: u64, count: Arc<AtomicU64>) {
    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
    thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        let mut left = limit;
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            let pass = usize::try_from(left).unwrap_or(usize::MAX).min(read);
            if to.write_all(&buffer[..pass]).is_err() {
                break;
            }
            count.fetch_add(pass as u64, Ordering::SeqCst);
            left -= pass as u64;
            if left == 0 {
                let _ = from.shutdown(Shutdown::Both);
                let _ = to.shutdown(Shutdown::Both);
                return;
            }
        }
        // A half-closed connection stays half-closed.
        let _ = to.shutdown(Shutdown::Write);
    });
}
