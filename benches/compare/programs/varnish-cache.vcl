# Varnish as it comes: its built-in rules, memory as the store, and its log in shared memory, which has no switch.
vcl 4.1;
backend origin { .host = "127.0.0.1"; .port = "@ORIGIN@"; }
