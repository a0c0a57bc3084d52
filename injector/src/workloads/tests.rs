use super::*;
use crate::exit::ExitCode;

const TEXT: &str = "description = \"x\"\nrun = \"true\"\ntags = [\"block\"]\nprograms = [\"sh\", \"no-such-program\"]\n\
    packages = [\"no-such-package\"]\n";

fn catalogue() -> (tempfile::TempDir, Catalogue) {
    let directory = tempfile::tempdir().unwrap();
    for file in ["zram.toml", "dm/workload.toml", "lib/lib.sh", "README.md", "empty/x"] {
        let path = directory.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, TEXT).unwrap();
    }
    let catalogue = Catalogue { directory: directory.path().to_owned() };
    (directory, catalogue)
}

#[test]
fn workloads_are_files_and_directories() {
    let (directory, catalogue) = catalogue();
    assert_eq!(catalogue.names().unwrap().into_keys().collect::<Vec<_>>(), ["dm", "zram"]);
    assert_eq!(catalogue.get("dm").unwrap().directory(), Some(directory.path().join("dm").as_path()));
    assert_eq!(find("zram", Some(directory.path())).unwrap().name, "zram");
    let path = directory.path().join("dm");
    assert_eq!(find(path.to_str().unwrap(), None).unwrap().name, "dm");
    fs::write(directory.path().join("dm.toml"), TEXT).unwrap();
    let error = catalogue.names().unwrap_err().to_string();
    assert!(error.contains("two workloads `dm`"), "{error}");
}

#[test]
fn a_name_that_is_not_there_is_bad_input_with_close_names() {
    let (directory, catalogue) = catalogue();
    let error = catalogue.get("zrma").unwrap_err();
    assert!(error.to_string().contains("; did you mean zram?"), "{error}");
    assert_eq!(error.exit_code(), ExitCode::USAGE);
    let error = catalogue.all(Some("net")).unwrap_err();
    assert!(error.to_string().ends_with("tags are: block"), "{error}");
    assert_eq!(catalogue.all(Some("block")).unwrap().len(), 2);
    let error = find("x", Some(&directory.path().join("none"))).unwrap_err();
    assert!(error.to_string().contains("--workloads DIR"), "{error}");
    assert_eq!(error.exit_code(), ExitCode::USAGE);
}

#[test]
fn what_is_missing_is_said_with_its_package() {
    let (_directory, catalogue) = catalogue();
    let file = catalogue.get("zram").unwrap();
    let missing = lacking(&file, |program| program == "sh").unwrap();
    assert_eq!(
        missing.to_string(),
        "the workload zram needs programs that this machine lacks: no-such-program (Debian: apt-get install no-such-package)"
    );
    assert_eq!(WorkloadsError::Missing(missing).exit_code(), ExitCode::MISSING);
    assert_eq!(lacking(&file, |_| true), None);
}

#[test]
fn the_catalogue_is_looked_for_in_this_order() {
    let checkout = tempfile::tempdir().unwrap();
    let root = checkout.path();
    fs::create_dir_all(root.join("injector")).unwrap();
    fs::write(root.join(CHECKOUT), "").unwrap();
    let mut hints =
        Hints { program: Some(root.join("target/debug/injector")), here: Some(root.join("docs")), ..Hints::default() };
    let expected = [
        root.join("target/debug/workloads"),
        root.join("target").join(SHARED),
        INSTALLED.into(),
        root.join("workloads"),
    ];
    assert_eq!(hints.places(), expected);
    hints.variable = Some("".into());
    assert_eq!(hints.places(), expected, "an empty variable says nothing");
    hints.variable = Some("/variable".into());
    assert_eq!(hints.places(), [PathBuf::from("/variable")]);
    hints.named = Some("/named".into());
    assert_eq!(hints.places(), [PathBuf::from("/named")]);
}
