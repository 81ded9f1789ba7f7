package milter

// ReplyData is for tests outside this package, which have the MTAs' rules.
var ReplyData = replyData
