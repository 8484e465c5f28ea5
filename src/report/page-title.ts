/** The title of a report page, by which an existing page is recognised. */

export const PAGE_TITLE = 'qcow2-bench report';
