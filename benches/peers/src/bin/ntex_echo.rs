//! An echo server on ntex, with its own runtime on io_uring.

use benches::process::{announce, listen, raise_descriptor_limit};
use clap::Parser;
use ntex::service::{fn_factory_with_config, fn_service};
use ntex::util::ByteString;
use ntex::web::{self, App, Error, HttpRequest, HttpResponse, ws};
use peers::{Fault, ServerArgs};
use std::io;

fn main() -> Result<(), Fault> {
    let args = ServerArgs::parse();
    if args.fan_out || args.tls_cert.is_some() {
        return Err("this server passes nothing on, and speaks no TLS".into());
    }
    raise_descriptor_limit()?;
    Ok(serve(args)?)
}

#[ntex::main]
async fn serve(args: ServerArgs) -> io::Result<()> {
    let listener = listen(args.listen)?;
    announce(&listener)?;
    let app = async || App::new().service(web::resource("/{tail}*").route(web::to(upgrade)));
    web::server(app).workers(args.workers.into()).disable_signals().listen(listener)?.run().await
}

async fn upgrade(request: HttpRequest) -> Result<HttpResponse, Error> {
    let service = fn_factory_with_config(|_| async { Ok::<_, Error>(fn_service(echo)) });
    ws::start::<_, _, &str, Error>(request, None, service).await
}

async fn echo(frame: ws::Frame) -> io::Result<Option<ws::Message>> {
    Ok(match frame {
        ws::Frame::Binary(payload) => Some(ws::Message::Binary(payload)),
        ws::Frame::Text(payload) => {
            let text = ByteString::try_from(payload);
            Some(ws::Message::Text(text.map_err(|_| io::ErrorKind::InvalidData)?))
        }
        ws::Frame::Ping(payload) => Some(ws::Message::Pong(payload)),
        ws::Frame::Close(reason) => Some(ws::Message::Close(reason)),
        _ => None,
    })
}
