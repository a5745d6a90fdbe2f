"""A window of the browser that hears of what goes wrong in it, and looks at each page as different people do."""

from __future__ import annotations

from guard import GUARD, tries

WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 360, "height": 740}

NUMBER_AND_WATCH = """
() => {
    document.activeElement.blur();
    const all = [...document.querySelectorAll("a[href], button, input, select, textarea, summary, [tabindex='0']")];
    const shown = all.filter((each) => each.checkVisibility());
    shown.forEach((each, number) => (each.dataset.tab = number));
    [window.reached, window.hidden] = [[], []];
    document.addEventListener("focusin", ({ target }) => {
        if (target.dataset.tab === undefined) return;
        window.reached.push(target.dataset.tab);
        if (getComputedStyle(target).outlineStyle === "none") window.hidden.push(target.outerHTML);
    });
    return shown.length;
}
"""
"""Numbers what can be pressed, and notes what gets the focus from then on, and what does without showing it."""

REPORT_VIOLATIONS = """
document.addEventListener("securitypolicyviolation", (event) =>
    console.error(`the policy forbids ${event.blockedURI} (${event.violatedDirective})`));
"""


class Visit:
    """
    A window at a shop.

    Attributes:
        page: Playwright's page.
        errors: What the console and the policy have complained of so far.
    """

    def __init__(self, browser, shop):
        self._shop = shop
        self._context = browser.new_context(base_url=shop, viewport=WIDE)
        self._context.set_default_timeout(GUARD * 1000)
        self._context.add_init_script(REPORT_VIOLATIONS)
        self.page = self._context.new_page()
        self.errors = []
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.errors.append(f"{self.page.url}: {error}"))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._context.close()

    def _heard(self, message):
        if message.type in ("error", "warning"):
            self.errors.append(f"{self.page.url}: {message.text} ({message.location.get('url')})")

    def check(self):
        """Nothing went wrong so far."""
        assert [] == self.errors

    def log_in(self, **who):
        """Become somebody: ``company=``, ``staff=``."""
        for name, value in who.items():
            self._context.add_cookies([{"name": name, "value": value, "url": self._shop}])

    def call(self, path):
        """Send a request as the company's program does; the response."""
        return self._context.request.get(path)

    def open(self, path):
        """Go to a page of the shop; the text that it shows."""
        self.page.goto(path)
        return self.text

    def until(self, path, said):
        """Open a page again and again until it says something."""
        for _ in tries(lambda: self.text):
            if said in self.open(path):
                return

    @property
    def text(self):
        """The text that is shown, with single spaces."""
        return " ".join(self.page.inner_text("body").split())

    def press(self, name):
        """Press a button, and wait for the page that it leads to."""
        with self.page.expect_navigation():
            self.page.get_by_role("button", name=name).first.click()

    def follow(self, name):
        """Click on a link in the page itself, and wait for where it leads."""
        with self.page.expect_navigation():
            self.page.locator("main").get_by_role("link", name=name, exact=True).first.click()

    def inspect(self):
        """Look at the page in light and dark, wide and narrow, with axe-core, and go through it by keyboard."""
        for scheme in ("light", "dark"):
            self.page.emulate_media(color_scheme=scheme)
            for size in (WIDE, NARROW):
                self.page.set_viewport_size(size)
                self._has_no_barrier(f"{scheme}, {size['width']} px")
                self._fits()
        self._can_be_reached_by_keyboard()
        self.page.set_viewport_size(WIDE)
        self.page.emulate_media(color_scheme="light")
        self.check()

    def _has_no_barrier(self, how):
        from axe_playwright_python.sync_playwright import Axe  # only where there is a browser

        found = Axe().run(self.page).response["violations"]
        barriers = [
            f"{each['id']} ({each['impact']}): {each['help']}: {[node['html'] for node in each['nodes']]}"
            for each in found
            if each["impact"] in ("serious", "critical")
        ]

        assert [] == barriers, f"{self.page.url} ({how})"

    def _fits(self):
        """Nothing has to be scrolled sideways but tables in boxes of their own."""
        wide, there_is = self.page.evaluate(
            "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        )

        assert wide <= there_is, self.page.url

    def _can_be_reached_by_keyboard(self):
        """Tab reaches everything that can be pressed, and each is seen to have the focus."""
        count = self.page.evaluate(NUMBER_AND_WATCH)
        for _ in range(count + 1):
            self.page.keyboard.press("Tab")
        reached, hidden = self.page.evaluate("[window.reached, window.hidden]")

        assert [] == hidden, self.page.url
        assert set(map(str, range(count))) == set(reached), self.page.url
