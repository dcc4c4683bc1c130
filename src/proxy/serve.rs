//! Requests over HTTP/1.1 that need no forwarding of Pingora's.

use pingora_proxy::ProxyHttp;

use super::admit::Admission;
use super::client::Client;
use super::{Gateway, bill, finish, request};
use crate::downstream::Connection;

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Served {
    /// It was answered, and the connection waits for the next one.
    Again,
    /// It was answered, and is the last one.
    Last,
    /// It was given up: the connection must be closed without another word.
    GivenUp,
    /// It is one that Pingora forwards; nothing was done with it.
    NotHere,
}

impl Gateway {
    /// Answers the request at hand on `connection`.
    pub async fn serve(&self, connection: &mut Connection) -> Served {
        let mut ctx = self.new_ctx();
        let admission = request::sort(&mut ctx, connection.request(), None);
        if matches!(admission, Admission::Opaque) {
            return Served::NotHere;
        }
        connection.accept();
        let mut client = Client::Own(connection);
        let answered = request::answer(self, &mut client, &mut ctx, admission).await;
        bill::settle(self, &mut ctx).await;
        finish::finish(self, client.request(), &ctx);
        match answered {
            Err(_told) => Served::GivenUp,
            Ok(_) if connection.finish() => Served::Again,
            Ok(_) => Served::Last,
        }
    }
}
