"""Sphinx's configuration; build.py calls it."""

from __future__ import annotations

from typing import Any

project = "meterkit"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "index"
exclude_patterns = ["examples/*.py"]
templates_path = ["templates"]
default_role = "literal"  # docstrings put names in single backticks

myst_heading_anchors = 4
myst_links_external_new_tab = False
suppress_warnings = [
    "misc.highlighting_failure",  # of languages that Pygments does not know, such as HAProxy's
    "myst.header",  # a page may begin below its title
]

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True  # time.time, not <built-in function time>
maximum_signature_line_length = 90
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # Attributes: as a list, so that no attribute is described twice
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = "meterkit"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_js_files = ["switch.js"]
html_copy_source = False
html_show_sphinx = False
html_sidebars = {
    "**": [
        "sidebar/brand.html",
        "sidebar/search.html",
        "sidebar/scroll-start.html",
        "sidebar/navigation.html",
        "sidebar/scroll-end.html",
        "versions.html",
    ]
}
pygments_style = "default"
pygments_dark_style = "monokai"


def setup(_app: Any) -> dict[str, bool]:
    """Pages can be read in parallel."""
    return {"parallel_read_safe": True, "parallel_write_safe": True}
