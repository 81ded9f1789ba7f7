package milter

// ReplyData is for tests outside this package, which have the MTAs' rules.
var ReplyData = replyData

// Delayed is how many answers wait.
func (s *Server) Delayed() int { return int(s.delayed.Load()) }
