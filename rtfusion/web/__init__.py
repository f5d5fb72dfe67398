"""The browser view: its server, its pictures, its page. `rtfusion.web.sink` puts them together."""
