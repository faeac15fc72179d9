startTheme();
startPrinting();
startHome();
start("token-viewer", "tv-status", tokenViewer);
start("answer-viewer", "av-status", answerViewer);
