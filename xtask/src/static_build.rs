//! Builds static programs: they run in a guest without libraries, and on any other machine.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::process;

/// There is no musl standard library everywhere; with an explicit target, glibc can be linked statically.
pub const TARGET: &str = "x86_64-unknown-linux-gnu";

/// A program that cargo made.
#[derive(Debug)]
pub struct Artifact {
    /// Its name in Cargo.toml, or a test file's.
    pub name: String,
    pub path: PathBuf,
}

#[derive(Deserialize)]
struct Line {
    reason: String,
    target: Option<Target>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

/// Runs `cargo ARGUMENTS`, with a static target, and lists the programs.
pub fn cargo(arguments: &[&str]) -> Result<Vec<Artifact>> {
    let mut cargo = process::cargo();
    cargo
        .args(arguments)
        .args(["--target", TARGET, "--message-format", "json-render-diagnostics"])
        .env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS", "-C target-feature=+crt-static")
        // Linking time for speed that nobody would see: the guest is emulated.
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .stdout(Stdio::piped());
    let mut child = cargo.spawn().with_context(|| format!("can't start {}", process::shown(&cargo)))?;
    let mut artifacts = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            artifacts.extend(artifact(&line.context("can't read what cargo prints")?));
        }
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("{}: {status}", process::shown(&cargo));
    }
    Ok(artifacts)
}

/// One binary of a package.
pub fn binary(package: &str, name: &str) -> Result<PathBuf> {
    let found = binaries(package, &[name])?.pop();
    found.map(|artifact| artifact.path).with_context(|| format!("cargo made no {name} of {package}"))
}

/// Binaries of a package, with their names, in this order.
pub fn binaries(package: &str, names: &[&str]) -> Result<Vec<Artifact>> {
    let mut arguments = vec!["build", "--release", "--package", package];
    arguments.extend(names.iter().flat_map(|name| ["--bin", name]));
    let mut artifacts = cargo(&arguments)?;
    let mut found = Vec::new();
    for name in names {
        let at = artifacts.iter().position(|artifact| artifact.name == *name);
        found.push(artifacts.swap_remove(at.with_context(|| format!("cargo made no {name} of {package}"))?));
    }
    Ok(found)
}

fn artifact(line: &str) -> Option<Artifact> {
    let line: Line = serde_json::from_str(line).ok()?;
    match line {
        Line { reason, target: Some(target), executable: Some(path) } if reason == "compiler-artifact" => {
            Some(Artifact { name: target.name, path })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_programs_are_listed() {
        let line = r#"{"reason":"compiler-artifact","target":{"name":"slab","kind":["test"]},"executable":"/t/slab-1","fresh":true}"#;
        let found = artifact(line).unwrap();
        assert_eq!((found.name.as_str(), found.path.to_str()), ("slab", Some("/t/slab-1")));
        assert!(artifact(r#"{"reason":"compiler-artifact","target":{"name":"libc"},"executable":null}"#).is_none());
        assert!(artifact(r#"{"reason":"build-finished","success":true}"#).is_none());
        assert!(artifact("not json").is_none());
    }
}
