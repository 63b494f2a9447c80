//! All that one test has: a folder, the program under test, and an end for everything that it starts.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::app::FOLDER_VARIABLE;
use crate::folder::Folder;
use crate::processes::{Process, Signal, processes_of, signal};
use crate::terrace::{Done, Terrace};
use crate::wait::until;

/// Said of every file that says nothing of it: nothing on fixed ports, nothing read unless the test asks for it.
const TERRACE_TABLE: &str = "\n[terrace]\nwatch = false\ndrain = \"10s\"\n";
const ADMIN_TABLE: &str = "\n[admin]\nprobes = \"127.0.0.1:0\"\n";

/// The surroundings of one test.
#[derive(Debug)]
pub struct World {
    /// Where its files are.
    pub folder: Folder,
    binary: PathBuf,
    app: Vec<String>,
    /// Set for the program under test, and for what it starts.
    environment: Vec<(String, String)>,
    commands: AtomicU32,
}

impl World {
    /// `binary` is the program under test, `app` the command line of a process that calls
    /// [`App::serve_as_process`](crate::App::serve_as_process).
    #[must_use]
    pub fn new(binary: &str, app: Vec<String>) -> Self {
        Self {
            folder: Folder::new(),
            binary: PathBuf::from(binary),
            app,
            environment: Vec::new(),
            commands: AtomicU32::new(0),
        }
    }

    /// Sets a variable for the program under test.
    #[must_use]
    pub fn with_variable(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The app's command line, as the value of `run`.
    #[must_use]
    pub fn app(&self) -> String {
        serde_json::to_string(&self.app).expect("a list of strings is JSON, and TOML")
    }

    /// The app's command line as words.
    #[must_use]
    pub fn app_words(&self) -> Vec<&str> {
        self.app.iter().map(String::as_str).collect()
    }

    /// Writes `terrace.toml`.
    pub fn write(&self, file: &str) {
        let mut text = file.to_owned();
        for (header, table) in [("[terrace]", TERRACE_TABLE), ("[admin]", ADMIN_TABLE)] {
            if !file.contains(header) {
                text.push_str(table);
            }
        }
        self.folder.write("terrace.toml", &text);
    }

    /// Starts Terrace with this file, and waits until it says that it is ready.
    ///
    /// # Panics
    /// When it ends instead.
    #[track_caller]
    #[must_use]
    pub fn up(&self, file: &str) -> Terrace<'_> {
        let mut terrace = self.start(file);
        terrace.wait_until_ready();
        terrace
    }

    /// Starts Terrace with this file and does not wait.
    #[must_use]
    pub fn start(&self, file: &str) -> Terrace<'_> {
        self.write(file);
        self.start_with(&["up"])
    }

    /// Starts Terrace with these arguments and does not wait.
    #[must_use]
    pub fn start_with(&self, arguments: &[&str]) -> Terrace<'_> {
        let number = self.commands.fetch_add(1, Ordering::Relaxed);
        let (out, err) = (format!("up-{number}.out"), format!("up-{number}.err"));
        Terrace::new(self, self.spawn(arguments, &out, &err), out, err)
    }

    /// Runs `terrace` with these arguments to its end.
    ///
    /// # Panics
    /// When it does not end.
    #[track_caller]
    pub fn terrace(&self, arguments: &[&str]) -> Done {
        let number = self.commands.fetch_add(1, Ordering::Relaxed);
        let (out, err) = (format!("command-{number}.out"), format!("command-{number}.err"));
        let mut child = self.spawn(arguments, &out, &err);
        let what = format!("`terrace {}` has ended", arguments.join(" "));
        let status = until(&what, || child.try_wait().expect("it is our child"));
        Done { code: status.code(), stdout: self.folder.read(&out), stderr: self.folder.read(&err) }
    }

    fn spawn(&self, arguments: &[&str], out: &str, err: &str) -> Child {
        let file = |name| File::create(self.folder.join(name)).expect("a file in our folder");
        let mut command = Command::new(&self.binary);
        command.args(arguments).current_dir(self.folder.path()).env(FOLDER_VARIABLE, self.folder.path());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.env_remove("NO_COLOR").stdin(Stdio::null()).stdout(file(out)).stderr(file(err));
        command.spawn().expect("the program under test was built")
    }

    /// Runs another program to its end, in the folder.
    ///
    /// # Panics
    /// When it is not installed.
    #[track_caller]
    pub fn run(&self, program: &str, arguments: &[&str]) -> Done {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null());
        command.env(FOLDER_VARIABLE, self.folder.path());
        let output = match command.output() {
            Ok(output) => output,
            Err(error) => panic!("{program} cannot be run ({error}); scripts/prepare.sh test installs it"),
        };
        Done {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Every living process that was started for this test.
    #[must_use]
    pub fn processes(&self) -> Vec<Process> {
        processes_of(self.folder.path())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // What is being killed may be starting something more.
        for _ in 0..20 {
            let left = self.processes();
            if left.is_empty() {
                return;
            }
            left.iter().for_each(|process| signal(process.pid, Signal::KILL));
        }
    }
}
