"""A browser without a screen: it opens pages, reads their forms, fills them in and follows where they lead."""

from __future__ import annotations

from html.parser import HTMLParser
from urllib.parse import urljoin

import httpx
from guard import GUARD


class Form:
    """A form of a page: its fields with their values, and what stands on its button."""

    def __init__(self):
        self.fields, self.button = {}, ""


class _Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.forms, self.links, self.text, self._link, self._button = [], {}, [], None, False

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if tag == "form":
            self.forms.append(Form())
        elif tag == "input":
            self.forms[-1].fields[attributes["name"]] = attributes.get("value") or ""
        elif tag == "a":
            self._link = attributes["href"]
        self._button = tag == "button"

    def handle_endtag(self, tag):
        if tag == "a":
            self._link = None
        elif tag == "button":
            self._button = False

    def handle_data(self, data):
        self.text.append(data.strip())
        if self._link is not None:
            self.links[data.strip()] = self._link
        if self._button:
            self.forms[-1].button += data.strip()


class Browser:
    """Where it is, what is written there, and what can be clicked."""

    def __init__(self):
        self.http = httpx.Client(timeout=GUARD)
        self.location, self.status, self.html, self.text = "", 0, "", ""
        self.forms, self.links = [], {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.http.close()

    def open(self, url):
        """Go there."""
        self._read(self.http.get(url), url)
        return self

    def press(self, button, **fields):
        """Fill in the form with that button, and press it; a redirection away from the sandbox is not followed."""
        (form,) = [form for form in self.forms if form.button == button]
        assert set(fields) <= set(form.fields)
        response = self.http.post(self.location, data={**form.fields, **fields})
        if response.status_code == 303:
            target = urljoin(self.location, response.headers["location"])
            if urljoin(target, "/") != urljoin(self.location, "/"):
                self.location, self.status = target, 303
                return self
            self._read(self.http.get(target), target)
        else:
            self._read(response, self.location)
        return self

    def buttons(self):
        """What can be pressed."""
        return [form.button for form in self.forms]

    def _read(self, response, url):
        reader = _Reader()
        reader.feed(response.text)
        self.location, self.status, self.html = url, response.status_code, response.text
        self.forms, self.links, self.text = reader.forms, reader.links, " ".join(filter(None, reader.text))
