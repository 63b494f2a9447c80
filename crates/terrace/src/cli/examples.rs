//! The examples at the end of each command's help.

pub(super) const TERRACE: &str = "\
Examples:
  terrace up -- node server.js     Run one command behind Terrace at port 8080
  terrace up                       Start everything in terrace.toml
  terrace check                    Say what is wrong with it, or print what it comes to
  terrace status                   Show what is running
  terrace top                      Watch it in the terminal; terrace dashboard --open: in a browser
  terrace logs web --follow        Read what the service web says
  terrace scale web 4              Run four instances of the service web

`terrace COMMAND --help` shows more of each.";

pub(super) const UP: &str = "\
Examples:
  terrace up                               Everything in ./terrace.toml
  terrace up shop/terrace.toml             Another file; its paths are relative to its folder
  terrace up --env production              With terrace.production.toml laid over it
  terrace up -- node server.js             One command; it finds its port in PORT

It stays until Ctrl-C or SIGTERM, then lets requests under way finish. SIGHUP reloads the file.";

pub(super) const CHECK: &str = "\
Examples:
  terrace check                            ./terrace.toml
  terrace check --env production           With terrace.production.toml laid over it
  terrace check --explain | less           Where each value comes from
  terrace check --quiet && terrace reload  In a script
  terrace check --json                     For a program

The exit status is 0 for a good file and 1 for a wrong one.";

pub(super) const STATUS: &str = "\
Examples:
  cd shop && terrace status                The Terrace that was started here
  terrace status --file shop/terrace.toml  One that was started elsewhere
  terrace status --json                    For a program";

pub(super) const RELOAD: &str = "\
Examples:
  terrace reload                           Take ./terrace.toml over
  terrace check --quiet && terrace reload  Look first
  terrace reload --wait=5m                 Stay until it is rolled out, for a script that must know

It says what changes. A wrong file is refused whole, with everything that is wrong; what runs runs on.
With --wait the status is 1 and the reason is told when an instance of what changed does not come up, or not in time.";

pub(super) const STOP: &str = "\
Examples:
  terrace stop                             The Terrace that was started here
  terrace stop --file shop/terrace.toml    One that was started elsewhere";

pub(super) const SCALE: &str = "\
Examples:
  terrace scale web 4                      Four instances of the service web

It holds until `instances` of that service changes in the file.";

pub(super) const RESTART: &str = "\
Examples:
  terrace restart web                      Replace every instance of the service web

Each replacement must be ready before the instance that it replaces is stopped.";

pub(super) const FAULT: &str = "\
Examples:
  terrace fault orders --delay 500ms --share 10% --for 5m   One request in ten waits
  terrace fault orders --abort 503 --header 'X-Test: 1' --for 1h
  terrace fault internal:payments --abort 503 --for 2m      What other services get of payments
  terrace fault --list                                      What is broken now, and until when
  terrace fault --end 3                                     End one; --end orders: all on that route

It ends by itself, outlives a reload, and is noted in the audit log.";

pub(super) const KEYS: &str = "\
Examples:
  terrace keys create nightly --role reader --expires 90d   Print a new key; it is shown this once
  terrace keys create partner --limit 100/s                 With a limit of its own
  terrace keys list                                         Which there are, and when each was last used
  terrace keys revoke 4f2k9x0ab1cd                          From then on it opens nothing

Only a hash is kept, in the state folder. It also works while Terrace does not run.";

pub(super) const TOTP: &str = "\
Examples:
  terrace totp          Show the secret, once, as a picture for a phone and as text
  terrace totp --new    Make a new one for a phone that was lost; ends all sessions

The dashboard asks for codes with `totp = true` in [admin]. The links of `terrace dashboard` need none: whoever can make one
owns the state folder.";

pub(super) const DRAIN: &str = "\
Examples:
  terrace drain web web-1                  Send web-1 no new requests; those under way finish
  terrace drain web web-1 --undo           Let it in again

It holds until the instance is replaced. When all are out, requests are answered with 503.";

pub(super) const TOP: &str = "\
Examples:
  terrace top                              Watch; ? explains the keys
  terrace top | cat                        Print once
  terrace top --json                       Once, for a program";

pub(super) const DASHBOARD: &str = "\
Examples:
  terrace dashboard                        An address that lets you in, once
  terrace dashboard --open                 Open it in a browser
  terrace dashboard --role viewer          To look only

From another machine: ssh -L 9900:127.0.0.1:9900 HOST, with the port of the address at both ends.";

pub(super) const ALERTS: &str = "\
Examples:
  terrace alerts                           Objectives, what is left of their budgets, and what fires
  terrace alerts test                      Send every receiver a test
  terrace alerts test oncall               Only this one
  terrace alerts silence checkout 2h --comment \"known, see #123\"
  terrace alerts unsilence ID              End a silence before its time
  terrace alerts --json                    For a program";

pub(super) const TRACES: &str = "\
Examples:
  terrace traces                           The newest that were kept
  terrace traces --errors --service orders Failed ones that came through orders
  terrace traces --slower 500ms            Slow ones
  terrace traces 4bf92f3577b34da6a3ce929d0e0e4736
                                           The way of one request";

pub(super) const LOGS: &str = "\
Examples:
  terrace logs                             The last lines of all services
  terrace logs web --follow                Those of web, and new ones as they come
  terrace logs web --level warn --since 1h What went wrong within the last hour
  terrace logs --trace 4bf92f3577b34da6a3ce929d0e0e4736
                                           What all services said about one request
  terrace logs --text timeout --json       As JSON, for programs";

pub(super) const SCHEMA: &str = "\
Examples:
  terrace schema > terrace.schema.json     For editors: put this first in terrace.toml:
                                             #:schema ./terrace.schema.json
  terrace schema --markdown | less         Every key, to read";

pub(super) const INSTALL: &str = "\
Examples:
  sudo terrace install                     Write /etc/systemd/system/terrace.service for ./terrace.toml
  terrace install --user                   Write ~/.config/systemd/user/terrace.service
  terrace install --print                  Only show it

It prints the commands that come next, and starts nothing by itself.";

pub(super) const COMPLETIONS: &str = "\
Examples:
  terrace completions bash > ~/.local/share/bash-completion/completions/terrace
  terrace completions zsh > ~/.zfunc/_terrace
  terrace completions fish > ~/.config/fish/completions/terrace.fish";
