//! What a server can be asked.

use redis::aio::MultiplexedConnection;
use redis::{Cmd, FromRedisValue, Pipeline, RedisResult, ScriptInvocation};

/// A question: one command, several in one trip, or a script.
///
/// A script is named by its hash; only a server that does not know it is sent its text.
#[derive(Clone, Copy)]
pub enum Ask<'a> {
    /// One command.
    Command(&'a Cmd),
    /// Several commands, written together and answered together.
    Pipeline(&'a Pipeline),
    /// A script with its keys and arguments.
    Script(&'a ScriptInvocation<'a>),
}

// === impl Ask ===

impl Ask<'_> {
    pub(super) async fn send<T: FromRedisValue>(
        &self,
        connection: &mut MultiplexedConnection,
    ) -> RedisResult<T> {
        match self {
            Self::Command(command) => command.query_async(connection).await,
            Self::Pipeline(pipeline) => pipeline.query_async(connection).await,
            Self::Script(script) => script.invoke_async(connection).await,
        }
    }
}

/// Lets a question be written as what it is made of, also as its builder returns it.
macro_rules! made_of {
    ($part:ty, $kind:ident) => {
        impl<'a> From<&'a $part> for Ask<'a> {
            fn from(part: &'a $part) -> Self {
                Self::$kind(part)
            }
        }

        impl<'a> From<&'a mut $part> for Ask<'a> {
            fn from(part: &'a mut $part) -> Self {
                Self::$kind(part)
            }
        }
    };
}

made_of!(Cmd, Command);
made_of!(Pipeline, Pipeline);
made_of!(ScriptInvocation<'a>, Script);
