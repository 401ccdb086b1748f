//! The environment variables that launcher and trainer read.

/// Folder of configuration presets that replaces the built-in ones.
pub const CONFIGS: &str = "LIFT_CONFIGS";

/// Folder of golden fixtures that tests compare with.
pub const FIXTURES: &str = "LIFT_FIXTURES";

/// Folder of data sets for tests and for `make accuracy`.
pub const DATA: &str = "LIFT_DATA";

/// Folder of pretrained backbones for tests and for `make accuracy`.
pub const BACKBONES: &str = "LIFT_BACKBONES";

/// `1` or `0`: `make setup` installs libtorch with or without its CUDA libraries, whatever the machine has.
pub const CUDA: &str = "LIFT_CUDA";

/// Folder of the libtorch to build with.
pub const LIBTORCH: &str = "LIBTORCH";

/// Which messages go to the log files: a level (`debug`) or directives (`trainer=debug,info`).
pub const LOG: &str = "LIFT_LOG";

/// Every variable with one sentence about it, for `--help` and the documentation.
pub const ALL: [(&str, &str); 7] = [
    (CONFIGS, "folder of configuration presets that replaces the built-in ones"),
    (FIXTURES, "folder of golden fixtures for the tests"),
    (DATA, "folder of data sets for tests and `make accuracy`"),
    (BACKBONES, "folder of pretrained backbones for tests and `make accuracy`"),
    (CUDA, "1 or 0: `make setup` with or without the CUDA libraries of libtorch"),
    (LIBTORCH, "folder of the libtorch to build with"),
    (LOG, "which messages go to the log files, e.g. debug or trainer=debug,info"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay() {
        let names: Vec<&str> = ALL.iter().map(|(name, _)| *name).collect();
        assert_eq!(
            names,
            [
                "LIFT_CONFIGS",
                "LIFT_FIXTURES",
                "LIFT_DATA",
                "LIFT_BACKBONES",
                "LIFT_CUDA",
                "LIBTORCH",
                "LIFT_LOG"
            ]
        );
    }
}
