//! How much work the injector's programs are for the verifier of the kernel that this runs on: JSON lines, for
//! `cargo xtask verify`.

use serde_json::json;

fn main() {
    for (size, programs) in injector_tests::verifier::measure() {
        for program in programs {
            let injector::session::Verified { program, instructions, states, translated } = program;
            let row = json!({"plan": size, "program": program, "instructions": instructions, "states": states,
                             "translated": translated});
            println!("{row}");
        }
    }
}
