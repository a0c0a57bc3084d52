//! `injector manual`: writes the manual pages.

use std::path::Path;

use injector::{
    cli::Page,
    exit::{ExitCode, Result},
    output,
};

/// Writes the pages into a directory.
pub fn manual(pages: &[Page], directory: &Path) -> Result<ExitCode> {
    for Page { name, text } in pages {
        output::replace(&directory.join(name), |out| out.write_all(text.as_bytes()))?;
    }
    Ok(ExitCode::OK)
}
