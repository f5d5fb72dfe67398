"""The browser view: its server, its pictures, its page. `rtfusion.sinks.web` puts them together."""
