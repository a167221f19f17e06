//! `tail`: a line of JSON for each reading as it is committed, and for what is refused.

use super::{View, ViewError, quality, value_json};
use crate::store::tail::{Happened, Tail, TailError, Told};
use adapter_api::{EndpointName, Sample, Stamp};
use hyper::body::{Bytes, Frame};
use serde_json::{Value as Json, json};
use std::{
    convert::Infallible,
    fmt::Write as _,
    pin::Pin,
    task::{Context, Poll},
};

/// Lines that are ready go out together, up to about so many bytes.
const TOGETHER: usize = 16 << 10;

/// The lines, as the body of an answer. Dropped with the connection, which ends it.
#[derive(Debug)]
pub struct Lines {
    tail: Tail,
    over: bool,
}

impl View {
    /// Looks on from now, at one endpoint or at all.
    pub async fn tail(&self, endpoint: Option<&str>) -> Result<Lines, ViewError> {
        let of = match endpoint {
            None => None,
            Some(text) => {
                let unknown = || ViewError::Unknown(format!("no endpoint {text:?} in the configuration"));
                let name = EndpointName::new(text).map_err(|_| unknown())?;
                self.directory.by_name(&name).ok_or_else(unknown)?;
                Some(name)
            }
        };
        match self.store.tail(of).await {
            Ok(tail) => Ok(Lines { tail, over: false }),
            Err(TailError::Closed(closed)) => Err(closed.into()),
            Err(error @ TailError::TooMany) => Err(ViewError::Refused(error.to_string())),
        }
    }
}

impl hyper::body::Body for Lines {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.over {
            return Poll::Ready(None);
        }
        let mut text = String::new();
        while text.len() < TOGETHER {
            match self.tail.poll_next(cx) {
                Poll::Ready(Some(told)) => lines(&told).for_each(|line| add(&mut text, &line)),
                Poll::Ready(None) => {
                    self.over = true;
                    add(&mut text, &json!({ "ended": "the gateway stops" }));
                    break;
                }
                Poll::Pending if text.is_empty() => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        Poll::Ready(Some(Ok(Frame::data(text.into()))))
    }
}

fn add(text: &mut String, line: &Json) {
    // Writing to a string cannot fail.
    let _infallible = writeln!(text, "{line}");
}

fn lines(told: &Told) -> impl Iterator<Item = Json> {
    let missed = (told.missed > 0).then(|| json!({ "missed": told.missed }));
    let (taken, refused) = match &told.what {
        Happened::Taken(sample) => (Some(sample), None),
        Happened::Refused { samples, why } => {
            (None, Some(json!({ "endpoint": told.endpoint, "refused": samples, "why": why })))
        }
    };
    let readings = taken.into_iter().flat_map(|sample| readings(&told.endpoint, sample));
    missed.into_iter().chain(readings).chain(refused)
}

fn readings(endpoint: &EndpointName, sample: &Sample) -> impl Iterator<Item = Json> {
    let stamp_us = match sample.at {
        Stamp::Wall { us, .. } => Some(us),
        Stamp::Mono { .. } => None,
    };
    sample.readings.iter().map(move |reading| {
        let (quality, why) = quality(&reading.quality);
        json!({
            "endpoint": endpoint,
            "stamp_us": stamp_us,
            "resource": reading.resource,
            "value": value_json(&reading.value),
            "quality": quality,
            "why": why,
        })
    })
}
