"""The drawings of the report: inline SVG without scripts, coloured by the page's style, one file a subject."""
