/** By which a chart of ours is known: type and data of a text chunk of PNG. */

export const PNG_MARK = 'tEXtSoftware\0qcow2-bench chart';
