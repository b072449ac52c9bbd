/* Runs before rq-dashboard's scripts: the page's values, and what they expect of underscore. */
var PAGE = JSON.parse(document.getElementById("page-data").textContent);
var POLL_INTERVAL = PAGE.poll_interval;
var AUTOREFRESH_FLAG = 1;

var escapeHtml = function (value) {
    if (value === null || value === undefined) { return ""; }
    return String(value).replace(/[&<>"'`]/g, function (character) {
        return "&#" + character.charCodeAt(0) + ";";
    });
};

/* The text of a template element is the name of its compiled function. */
var _ = { template: function (name) { return TEMPLATES[name.trim()]; } };

(function ($) {
    var tell = function (text) {
        $("#notice").text(text).prop("hidden", text === "");
    };

    $(document).ajaxError(function (event, reply) {
        if (reply.status === 401 || (reply.status === 403 && !reply.responseJSON)) {
            window.location.reload(); /* the session is over: to the sign-in page */
        } else if (reply.status !== 200) {
            var answer = reply.responseJSON || {};
            tell(answer.detail || "The service does not answer. Trying again …");
        }
    });

    $(document).ajaxSuccess(function (event, reply, request) {
        if (request.type === "POST") {
            var answer = reply.responseJSON || {};
            tell(answer.count === undefined ? "Requeued." : "Requeued: " + answer.count + ".");
        } else if (!$("#notice").hasClass("kept")) {
            tell("");
        }
        $("#notice").toggleClass("kept", request.type === "POST");
    });
})(jQuery);
