//! How a text feels: VADER (Hutto and Gilbert 2014), score for score that of the Python package vaderSentiment 3.3.2.

use std::sync::LazyLock;

use tapedeck_market::{Body, Decimal, Event, Sentiment};
use vader_parity::SentimentIntensityAnalyzer;

/// The longest text that is scored: four bytes for each of the 25,000 characters that the longest post has. What one
/// takes is then bounded too.
pub const TEXT_BYTES: usize = 100_000;

/// 7,500 words and 3,500 emoji, read once.
static ANALYZER: LazyLock<SentimentIntensityAnalyzer> = LazyLock::new(SentimentIntensityAnalyzer::new);

/// Scores a text; `None` for one that is too long to be a post.
#[must_use]
pub fn score(text: &str) -> Option<Sentiment> {
    if text.len() > TEXT_BYTES {
        return None;
    }
    let scores = ANALYZER.polarity_scores(text);
    // The shortest text of a rounded double is the rounded number.
    let exact = |score: f64| Decimal::parse(score.to_string().as_bytes()).ok();
    Some(Sentiment {
        compound: exact(scores.compound)?,
        positive: exact(scores.pos)?,
        neutral: exact(scores.neu)?,
        negative: exact(scores.neg)?,
    })
}

/// Scores the text of a post; `false` where it is too long to be one.
pub fn score_post(event: &mut Event) -> bool {
    let Body::Post(post) = &mut event.body else { return true };
    post.sentiment = score(&post.text);
    post.sentiment.is_some()
}
