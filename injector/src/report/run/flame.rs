//! The stacks as a flame graph: how wide a frame is says how many failures were below it.

use std::io::{self, Write};

use inferno::flamegraph::{
    self, Options, TextTruncateDirection,
    color::{BasicPalette, Palette},
};

use super::{folded, model::Run, words};
use crate::report::phrase::one_line;

/// The flame graph as an SVG of its own: frames can be searched and looked at more closely in a browser.
///
/// # Errors
/// It can't be written.
pub fn flamegraph(run: &Run, out: &mut dyn Write) -> io::Result<()> {
    let mut options = options();
    options.title = match &run.start {
        Some(start) => format!("{} on Linux {}", words::title(run), one_line(&start.kernel)),
        None => words::title(run),
    };
    draw(run, &mut options, out)?;
    writeln!(out)?;
    out.flush()
}

/// The frames alone, `width` pixels wide and without a script, as a part of a page. None if there are none.
pub(super) fn frames(run: &Run, width: usize) -> io::Result<Option<Frames>> {
    if run.failures == 0 {
        return Ok(None);
    }
    let mut options = options();
    // What is around the frames is cut away here, but it takes its room.
    options.image_width = Some(width + 2 * MARGIN);
    options.no_javascript = true;
    let mut svg = Vec::new();
    draw(run, &mut options, &mut svg)?;
    let svg = String::from_utf8(svg).map_err(io::Error::other)?;
    Ok(cut(&svg, width))
}

/// The frames of a flame graph.
pub(super) struct Frames {
    /// The inner `svg` element.
    pub(super) svg: String,
    /// What of the picture that it was cut from they fill: left, top, width, height.
    pub(super) view: [usize; 4],
}

/// Left and right of the frames in inferno's pictures.
const MARGIN: usize = 10;
/// Above and below them: room for a title and for what its script says.
const ABOVE: usize = 36;
const BELOW: usize = 33;

fn cut(svg: &str, width: usize) -> Option<Frames> {
    let height: usize = svg.split_once(" height=\"")?.1.split_once('"')?.0.parse().ok()?;
    let start = svg.find("<svg id=\"frames\"")?;
    let end = svg.rfind("</svg>")?;
    let inner = svg.get(start..end)?.trim_end();
    inner
        .ends_with("</svg>")
        .then(|| Frames { svg: inner.to_owned(), view: [MARGIN, ABOVE, width, height.saturating_sub(ABOVE + BELOW)] })
}

fn options() -> Options<'static> {
    let mut options = Options::default();
    options.colors = Palette::Basic(BasicPalette::Mem);
    // The same function has the same colour in every picture.
    options.hash = true;
    options.count_name = "failures".to_owned();
    options.text_truncate_direction = TextTruncateDirection::Right;
    options
}

fn draw(run: &Run, options: &mut Options<'_>, out: &mut dyn Write) -> io::Result<()> {
    if run.failures == 0 {
        // inferno says that its input is bad; it is not.
        return write!(out, "{}", EMPTY);
    }
    let total = run.sites.iter().fold(0, |sum: u64, site| sum.saturating_add(site.count));
    let stacks = folded::stacks(run);
    let lines: Vec<String> = stacks.iter().map(|(stack, count)| format!("{stack} {}", scaled(*count, total))).collect();
    flamegraph::from_lines(options, lines.iter().map(String::as_str), out)
}

const EMPTY: &str = r#"<svg version="1.1" width="400" height="60" xmlns="http://www.w3.org/2000/svg"><text x="20" y="35" font-family="sans-serif" font-size="16" fill="gray">No failures</text></svg>"#;

/// inferno adds the counts up without looking whether there is room for the sum.
fn scaled(count: u64, total: u64) -> u64 {
    const MOST: u64 = 1 << 53;
    if total <= MOST { count } else { (count / (total / MOST + 1)).max(1) }
}
