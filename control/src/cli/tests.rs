//! Do the grammar, the tables and the help do what they promise?
