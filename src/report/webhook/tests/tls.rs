//! Receivers behind TLS: whom the webhook trusts and how it shows itself.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use pingora::tls::pkey::PKey;
use pingora::tls::ssl::{SslAcceptor, SslFiletype, SslMethod, SslVerifyMode};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;

use super::{OK, event, webhook};
use crate::report::{DeliveryError, Reporter};

/// An authority, the receiver's certificate and ours, as PEM files.
struct Papers {
    dir: TempDir,
}

impl Papers {
    fn new() -> Self {
        let papers = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // A name of its own: with the same as those it signs they would look self-signed.
        params
            .distinguished_name
            .push(DnType::CommonName, "authority");
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        papers.write("ca.pem", &authority.pem());
        for name in ["receiver", "gateway"] {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            let cert = params.signed_by(&key, &authority).unwrap();
            papers.write(&format!("{name}.pem"), &cert.pem());
            papers.write(&format!("{name}.key"), &key.serialize_pem());
        }
        papers
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// A key of another form than the one it was written in: `EC PRIVATE KEY`.
    fn write_sec1_key(&self) {
        let pem = std::fs::read(self.path("gateway.key")).unwrap();
        let key = PKey::private_key_from_pem(&pem).unwrap();
        let pem = key.ec_key().unwrap().private_key_to_pem().unwrap();
        assert!(pem.starts_with(b"-----BEGIN EC PRIVATE KEY-----"));
        std::fs::write(self.path("sec1.key"), pem).unwrap();
    }

    /// Answers one post, if the client's certificate is right where one is asked for.
    fn receiver(&self, asks: bool) -> SocketAddr {
        let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls()).unwrap();
        acceptor
            .set_certificate_chain_file(self.path("receiver.pem"))
            .unwrap();
        acceptor
            .set_private_key_file(self.path("receiver.key"), SslFiletype::PEM)
            .unwrap();
        if asks {
            acceptor.set_ca_file(self.path("ca.pem")).unwrap();
            acceptor.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
        }
        let acceptor = acceptor.build();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let addr = listener.local_addr().unwrap();
        // Ends with the test's runtime: by then the client has closed.
        drop(tokio::task::spawn_blocking(move || {
            let Some(stream) = accepted(&listener) else {
                return;
            };
            stream
                .set_read_timeout(Some(Duration::from_secs(20)))
                .unwrap();
            let Ok(mut stream) = acceptor.accept(stream) else {
                return;
            };
            let mut seen = [0; 16 * 1024];
            // The head and the small body, in however many records.
            let mut length = 0;
            while !seen[..length].ends_with(b"}") {
                match stream.read(&mut seen[length..]) {
                    Ok(0) | Err(_) => return,
                    Ok(more) => length += more,
                }
            }
            stream.write_all(OK.as_bytes()).unwrap();
        }));
        addr
    }
}

/// The first connection; `None` if none comes, so that a test that fails does not wait for ever.
fn accepted(listener: &TcpListener) -> Option<TcpStream> {
    listener.set_nonblocking(true).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline {
        if let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(false).unwrap();
            return Some(stream);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    None
}

async fn deliver(receiver: SocketAddr, tls: &str) -> Result<(), DeliveryError> {
    let port = receiver.port();
    let yaml =
        format!("{{name: a, url: \"https://localhost:{port}/x\", timeout: 10s, tls: {{{tls}}}}}");
    webhook(&yaml).unwrap().deliver(&[event("1")]).await
}

fn files(papers: &Papers, keys: &[(&str, &str)]) -> String {
    let key = |(key, name): &(&str, &str)| format!("{key}: \"{}\"", papers.path(name).display());
    keys.iter().map(key).collect::<Vec<_>>().join(", ")
}

#[tokio::test]
async fn a_receiver_nobody_vouches_for_gets_nothing() {
    let papers = Papers::new();
    let error = deliver(papers.receiver(false), "").await.unwrap_err();
    assert!(matches!(error, DeliveryError::Retry { .. }), "{error:?}");
    assert!(error.to_string().contains("certificate"), "{error}");
}

#[tokio::test]
async fn a_private_authority_is_trusted_when_named() {
    let papers = Papers::new();
    let ca = files(&papers, &[("ca", "ca.pem")]);
    deliver(papers.receiver(false), &ca).await.unwrap();
}

#[tokio::test]
async fn an_authority_that_did_not_sign_is_of_no_use() {
    let (papers, others) = (Papers::new(), Papers::new());
    let ca = files(&others, &[("ca", "ca.pem")]);
    deliver(papers.receiver(false), &ca).await.unwrap_err();
}

#[tokio::test]
async fn verification_can_be_switched_off() {
    let papers = Papers::new();
    deliver(papers.receiver(false), "verify: false")
        .await
        .unwrap();
}

#[tokio::test]
async fn a_receiver_that_asks_gets_our_certificate() {
    let papers = Papers::new();
    papers.write_sec1_key();
    let ca = files(&papers, &[("ca", "ca.pem")]);
    deliver(papers.receiver(true), &ca).await.unwrap_err();
    for key in ["gateway.key", "sec1.key"] {
        let all = [("ca", "ca.pem"), ("cert", "gateway.pem"), ("key", key)];
        deliver(papers.receiver(true), &files(&papers, &all))
            .await
            .unwrap();
    }
}

#[test]
fn files_that_cannot_work_are_named_when_the_gateway_starts() {
    let papers = Papers::new();
    papers.write("empty.pem", "");
    papers.write(
        "broken.pem",
        "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
    );
    let shown = |name: &str| papers.path(name).display().to_string();
    let refused = |keys: &[(&str, &str)]| {
        let tls = files(&papers, keys);
        webhook(&format!("{{name: a, url: \"https://h\", tls: {{{tls}}}}}"))
            .err()
            .unwrap()
    };
    let missing = refused(&[("ca", "missing.pem")]);
    assert!(
        missing.starts_with(&format!("tls.ca: {}: No such file", shown("missing.pem"))),
        "{missing}"
    );
    assert_eq!(
        refused(&[("ca", "empty.pem")]),
        format!("tls.ca: {} holds no certificate", shown("empty.pem"))
    );
    assert!(refused(&[("ca", "broken.pem")]).starts_with("tls.ca: "));
    assert_eq!(
        refused(&[("cert", "gateway.pem")]),
        "tls: cert and key go together"
    );
    assert_eq!(
        refused(&[("cert", "gateway.pem"), ("key", "ca.pem")]),
        format!(
            "tls.key: {} holds no unencrypted private key",
            shown("ca.pem")
        )
    );
    let empty = refused(&[("cert", "empty.pem"), ("key", "gateway.key")]);
    assert!(empty.starts_with("tls.cert: "), "{empty}");
    let foreign = refused(&[("cert", "gateway.pem"), ("key", "receiver.key")]);
    assert!(foreign.contains("cannot be built"), "{foreign}");
}
