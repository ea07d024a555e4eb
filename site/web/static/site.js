// Below file: a page may not read another one, so search shows titles without their context.
if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
