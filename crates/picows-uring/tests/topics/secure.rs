//! Topics over TLS, compressed: each publication once for all connections.

use super::*;
use crate::common::secure::certificates::Certificates;
use picows_uring::{Connect, Deflate, Server, run};

fn text(number: u32) -> String {
    format!(r#"{{"number":{number},"symbol":"SAP","venue":"XETRA","bid":101.25,"ask":101.5}}"#)
}

#[test]
fn publications_are_compressed_once_and_sealed_for_each_connection() {
    let certificates = Certificates::new();
    for dedicated in [false, true] {
        let hub = Hub::builder().deflate(12).build().expect("valid settings");
        let builder = Server::builder().listen("127.0.0.1:0").workers(2).dedicated(dedicated);
        let builder = builder.tls(certificates.server()).deflate(Deflate::new().threshold(0));
        let server = serve(builder, &hub);
        let (url, tls) = (format!("wss://{}/", address(&server)), certificates.client());
        let publisher = hub.clone();
        run(async move {
            let mut streams = Vec::new();
            for number in 0..12 {
                let connect = Connect::new(&url).tls(&tls);
                let deflates = number % 3 > 0;
                let connect = if deflates { connect.deflate(Deflate::new()) } else { connect };
                let mut stream = connect.stream().await.expect("it connects");
                assert!(stream.transport().is_secure());
                assert_eq!(stream.transport().deflate().is_some(), deflates);
                stream.send("sub t ").await.expect("it is open");
                let first = stream.next().await.expect("an answer");
                assert!(first.as_text().is_some_and(|it| it.starts_with("new ")));
                streams.push(stream);
            }
            for number in 0..100 {
                let published = publisher.publish("t", Post::text(text(number))).unwrap();
                assert_eq!((published.receivers, published.lost), (12, 0));
            }
            for stream in &mut streams {
                for number in 0..100 {
                    let message = stream.next().await.expect("a publication");
                    assert_eq!(message.as_text(), Some(&*text(number)));
                }
            }
        })
        .expect("a runtime");
        common::eventually(&server, "all are gone", |stats| stats.connections == 0);
        assert_eq!(hub.subscriptions(), 0);
    }
}
