"""Configures Sphinx for the web site: see sphinx-doc.org, myst-nb and furo. make.py runs Sphinx."""

project = "Build your own container"
html_title = project
language = "en"

extensions = [
    "myst_nb",  # Markdown, and notebooks with their output
    "sphinx.ext.githubpages",  # GitHub Pages must not hide _static
]
nb_execution_mode = "off"  # the lessons have run in the lab's VM
# No lesson has widgets, whose scripts would come from the network.
nb_ipywidgets_js: dict[str, object] = {}
myst_heading_anchors = 3
suppress_warnings = ["misc.highlighting_failure"]  # of cells that begin with ! or %%

html_theme = "furo"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_favicon = "static/icon.svg"
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
html_use_index = False
html_domain_indices = False
templates_path = ["templates"]
html_sidebars = {
    "**": [
        "sidebar/brand.html",
        "sidebar/search.html",
        "sidebar/tab.html",
        "sidebar/scroll-start.html",
        "sidebar/navigation.html",
        "sidebar/scroll-end.html",
    ]
}
