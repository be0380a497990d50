//! What runs when a user types `shuntctl`? All of it is in [`shunt_control::cli`].
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    // A word that is not UTF-8 can name nothing that the daemon knows.
    let argv: Vec<String> = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    shunt_control::cli::run(&argv).into()
}
